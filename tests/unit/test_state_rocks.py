"""What rocksdict does to those who do not know it (`state/rocks.py`), and what opening costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamapp.errors import ConfigurationError, StateCorrupted, StoreError, StreamAppError
from streamapp.state import SharedMemory, StateDirectory, StoreIdentity, UnitEnded
from streamapp.state.rocks import translated

IDENTITY = StoreIdentity("app", "inbox", 0, "app-inbox-changelog")

FILLER = """
import os, sys
from pathlib import Path
from streamapp.state import StateDirectory, StoreIdentity
inbox = StateDirectory(Path(sys.argv[1]), "app").open_partition(
    StoreIdentity("app", "inbox", 0, "app-inbox-changelog"), retention_s=604_800
)
ids = ((b"transfers|%09d|cdnow-%014d" % (n * 7919 % 1_000_003, n), b"PROCESSED 1") for n in range(1_000_000))
inbox.restore(ids, 1_000_000, newest_s=1)
os._exit(9)  # as kill -9 does: nothing is closed
"""


def test_a_million_ids_open_in_under_a_second_after_a_kill_too(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", FILLER, str(tmp_path)]
    assert subprocess.run(command, check=False, timeout=60, env=environment).returncode == 9
    for ended in ("killed", "closed"):
        state = StateDirectory(tmp_path, "app")
        start = time.process_time()
        inbox = state.open_partition(IDENTITY, retention_s=604_800)
        took_s = time.process_time() - start
        assert inbox.checkpoint == 1_000_000
        assert inbox.begin().contains(b"transfers|%09d|cdnow-%014d" % (7919 * 999_999 % 1_000_003, 999_999))
        assert took_s < 1, ended  # of processor time: a busy machine is no failure
        state.close()


@pytest.mark.parametrize("retention_s", [None, 1_000])
def test_a_store_opened_again_keeps_its_bloom_filter_and_the_shared_cache(
    tmp_path: Path, retention_s: int | None
) -> None:
    for opening in range(3):
        memory = SharedMemory(4 << 20, 4 << 20)
        state = StateDirectory(tmp_path, "app", memory)
        inbox = state.open_partition(IDENTITY, retention_s)
        inbox.restore([(b"%d" % n, os.urandom(50)) for n in range(5_000)], opening, newest_s=opening * 1_000)
        inbox.close()
        inbox = state.open_partition(IDENTITY, retention_s)
        before = memory.cache.get_usage()
        assert len(inbox.committed.items()) == 5_000
        assert memory.cache.get_usage() > before
        newest = max((tmp_path / "inbox" / "0").glob("OPTIONS-*"))
        lines = newest.read_text().splitlines()
        assert "  track_and_verify_wals_in_manifest=true" in lines
        policies = [line for line in lines if "filter_policy=" in line]
        families = 2 if retention_s is None else 2 + opening
        assert policies == ["  filter_policy=bloomfilter"] * families
        state.close()


def test_many_stores_with_little_in_each_are_not_flushed_at_every_commit(tmp_path: Path) -> None:
    """64 partitions were: what their empty memtables take was above the bound on all of them (see `options.py`)."""
    state = StateDirectory(tmp_path, "app", SharedMemory(1 << 20, 1 << 20))
    stores = [state.open_partition(StoreIdentity("app", "inbox", number, "log"), 1_000) for number in range(8)]
    for store in stores:
        for newest_s in (1_000, 2_000, 3_000):
            store.advance(newest_s)
    for commit in range(20):
        for store in stores:
            rows = store.begin()
            rows.set(b"%d" % commit, b"mark")
            rows.merge()
            store.commit(commit)
    assert list(tmp_path.rglob("*.sst")) == []
    state.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Corruption: block checksum mismatch: stored = 1, computed = 2", StateCorrupted),
        ("Corruption: Can't access /000016.sst: IO error: No such file or directory", StateCorrupted),
        ("IO error: No such file or directory: While opening a file: /x/MANIFEST-000024", StateCorrupted),
        ("Invalid argument: /x/CURRENT: does not exist (create_if_missing is false)", StateCorrupted),
        ("IO error: No space left on device: While appending to file: /x/000008.log", StoreError),
        ("IO error: Input/output error: While pread offset 0 len 4096: /x/000008.sst", StoreError),
        ("IO error: Too many open files: While open a file for random read: /x/000008.sst", StoreError),
        ("IO error: lock hold by current process, acquire time 1: /x/LOCK: No locks available", ConfigurationError),
        ("IO error: While lock file: /x/LOCK: Resource temporarily unavailable", ConfigurationError),
        ("something nobody has seen", StoreError),
    ],
)
def test_errors_by_remedy(text: str, expected: type[StreamAppError]) -> None:
    error = translated(Exception(text), "inbox[0]")
    assert type(error) is expected
    assert text in str(error)


def test_reading_a_damaged_block_raises_and_does_not_end_the_iteration(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, "app")
    inbox = state.open_partition(IDENTITY)
    inbox.restore([(b"%05d" % n, os.urandom(100)) for n in range(5_000)], 5_000)
    inbox.close()
    inbox = state.open_partition(IDENTITY)
    table = max((tmp_path / "inbox" / "0").glob("*.sst"), key=lambda file: file.stat().st_size)
    with table.open("r+b") as file:
        file.seek(table.stat().st_size // 2)
        file.write(b"\xff" * 16)
    with pytest.raises(StateCorrupted, match="checksum"):
        inbox.committed.items()
    with pytest.raises(StateCorrupted, match="checksum"):
        list(inbox.begin().items())
    with pytest.raises(StateCorrupted, match="checksum"):
        [inbox.begin().get(b"%05d" % n) for n in range(5_000)]
    inbox.close()
    with pytest.raises(UnitEnded):
        inbox.committed.get(b"1")
    state.close()
