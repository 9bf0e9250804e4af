"""kill -9 at any moment: values and checkpoint are of the same commit, and no acknowledged commit is lost."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamapp.state import StateDirectory, StoreIdentity

IDENTITY = StoreIdentity("app", "balances", 0, "app-balances-changelog")
KEYS = 300
KILLS = 6

# Commits n, n + 1, ... as fast as it can, every key set to n, and says each number once it is committed.
# Units that were not committed write 0, which must never be seen.
WRITER = f"""
import sys
from pathlib import Path
from streamapp.state import SharedMemory, StateDirectory, StoreIdentity

retention_s = int(sys.argv[2]) or None
state = StateDirectory(Path(sys.argv[1]), "app", SharedMemory(1 << 20, 256 << 10))
partition = state.open_partition(StoreIdentity("app", "balances", 0, "app-balances-changelog"), retention_s)
n = partition.checkpoint or 0
while True:
    n += 1
    partition.advance(n)
    unit = partition.begin()
    unit.set(b"000", b"0")
    unit.merge()
    if n % 7 == 0:
        partition.abort()
    unit = partition.begin()
    for key in range({KEYS}):
        unit.set(b"%03d" % key, b"%d" % n + b" " * (n % 90))
    unit.merge()
    partition.commit(n)
    sys.stdout.write(f"{{n}}\\n")
    sys.stdout.flush()
"""


def run_and_kill(path: Path, retention_s: int, commits: int, delay_s: float) -> int:
    """The last commit the writer spoke of, after it was killed at some moment past `commits` of them."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITER, str(path), str(retention_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
        assert writer.stdout is not None
        try:
            for _ in range(commits):
                ready, _, _ = select.select([writer.stdout], [], [], 30)
                assert ready
                assert writer.stdout.readline(), "the writer ended by itself"
            select.select([], [], [], delay_s)
        finally:
            writer.send_signal(signal.SIGKILL)
        said = writer.stdout.read().split()
    return int(said[-1]) if said else 0


@pytest.mark.parametrize("retention_s", [0, 40])
def test_values_and_checkpoint_survive_kills_together(tmp_path: Path, retention_s: int) -> None:
    stream = random.Random(retention_s)
    path = tmp_path / "state"
    last = 0
    for kill in range(KILLS):
        said = run_and_kill(path, retention_s, stream.randrange(1, 60), stream.random() * 0.02)
        if kill % 3 == 0:
            continue  # the next writer opens what this one left
        state = StateDirectory(path, "app")
        partition = state.open_partition(IDENTITY, retention_s or None)
        assert partition.checkpoint is not None
        assert partition.checkpoint >= max(said, last)
        last = partition.checkpoint
        value = b"%d" % last + b" " * (last % 90)
        assert partition.committed.items() == [(b"%03d" % key, value) for key in range(KEYS)]
        unit = partition.begin()
        assert all(unit.get(b"%03d" % key) == value for key in range(KEYS))
        state.close()
