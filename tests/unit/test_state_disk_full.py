"""A full disk is said, stops the worker and harms nothing.

The disk is a tmpfs of 8 MiB in a mount namespace of a child process, so it goes away with it whatever happens.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from streamapp.errors import StoreError
from streamapp.state import StateDirectory, StoreIdentity

IDENTITY = StoreIdentity("app", "balances", 0, "app-balances-changelog")

SCENARIO = "import sys, pathlib, test_state_disk_full as t; getattr(t, sys.argv[2])(pathlib.Path(sys.argv[1]))"
IN_NAMESPACE = 'mount -t tmpfs -o size=8m tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1" "$4"'


def fill_by_a_commit(small_disk: Path) -> None:
    state = StateDirectory(small_disk / "state", "app")
    partition = state.open_partition(IDENTITY)
    for n in range(1, 4):
        unit = partition.begin()
        for key in range(100):
            unit.set(b"%d" % key, b"%d" % n)
        unit.merge()
        partition.commit(n)

    unit = partition.begin()
    for key in range(400):
        unit.set(b"%d" % key, os.urandom(50_000))
    unit.merge()
    pending = dict(partition.changes())
    with pytest.raises(StoreError, match="No space left"):
        partition.commit(4)
    assert dict(partition.begin().items()) == pending
    assert partition.checkpoint == 3
    assert partition.committed.get(b"0") == b"3"
    assert partition.committed.get(b"200") is None
    state.close()

    state = StateDirectory(small_disk / "state", "app")
    partition = state.open_partition(IDENTITY)
    assert partition.checkpoint == 3
    assert dict(partition.committed.items()) == {b"%d" % key: b"3" for key in range(100)}
    unit = partition.begin()
    unit.set(b"0", b"4")
    unit.merge()
    partition.commit(4)
    assert partition.committed.get(b"0") == b"4"
    state.close()


def fill_by_a_restore(small_disk: Path) -> None:
    state = StateDirectory(small_disk / "state", "app")
    partition = state.open_partition(IDENTITY)
    with pytest.raises(StoreError, match="No space left"):
        partition.restore(((b"%d" % n, os.urandom(1_000)) for n in range(20_000)), 20_000)
    assert partition.checkpoint is None
    state.close()
    (small_disk / "filler").write_bytes(b"")
    with (small_disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space left"):
        while True:
            filler.write(b"\0" * 4096)
    with pytest.raises(StoreError):
        state = StateDirectory(small_disk / "state", "app")
        try:
            state.open_partition(replace(IDENTITY, partition=1))
        finally:
            state.close()


@pytest.mark.parametrize("scenario", [fill_by_a_commit, fill_by_a_restore])
def test_a_full_disk_is_said_and_harms_nothing(scenario: object, tmp_path: Path) -> None:
    name = scenario.__name__  # type: ignore[attr-defined]
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    namespace = ["/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", IN_NAMESPACE, "sh"]
    if not Path(namespace[0]).exists():
        pytest.skip("a small disk needs unshare(1)")
    command = [*namespace, str(tmp_path), sys.executable, SCENARIO, name]
    child = subprocess.run(
        command, check=False, timeout=60, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": here}
    )
    if child.returncode == 77 or "unshare failed" in child.stderr or "uid_map" in child.stderr:
        pytest.skip(f"a small disk cannot be mounted here: {child.stderr.strip()}")
    assert child.returncode == 0, child.stderr
