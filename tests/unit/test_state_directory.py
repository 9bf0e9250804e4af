"""One owner, its own files only, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from streamapp.errors import ConfigurationError, StateCorrupted
from streamapp.state import DirectoryInUse, MemoryState, SharedMemory, StateDirectory, StoreIdentity

IDENTITY = StoreIdentity("app", "balances", 0, "app-balances-changelog", "topic-id-1")

HOLDER = """
import sys, time
from pathlib import Path
from streamapp.state import StateDirectory
state = StateDirectory(Path(sys.argv[1]), "app")
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(DirectoryInUse, match=f"process {holder.pid} on "):
                StateDirectory(tmp_path / "state", "app")
        finally:
            holder.send_signal(signal.SIGKILL)
    StateDirectory(tmp_path / "state", "app").close()  # a killed owner holds nothing


def test_a_second_owner_in_one_process_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path / "state", "app")
    with pytest.raises(DirectoryInUse, match=f"process {os.getpid()}"):
        StateDirectory(tmp_path / "state", "app")
    worker_id = first.worker_id
    first.close()
    first.close()
    second = StateDirectory(tmp_path / "state", "app")
    assert second.worker_id == worker_id
    with pytest.raises(ConfigurationError, match="is closed"):
        first.open_partition(IDENTITY)
    second.close()


def test_a_directory_of_another_application_is_refused_and_untouched(tmp_path: Path) -> None:
    StateDirectory(tmp_path / "state", "app").close()
    with pytest.raises(ConfigurationError, match="'app', not 'other'"):
        StateDirectory(tmp_path / "state", "other")
    StateDirectory(tmp_path / "state", "app").close()


def test_a_directory_that_is_no_state_directory_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigurationError, match="no state directory"):
        StateDirectory(tmp_path, "app")
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ConfigurationError, match="is a file"):
        StateDirectory(tmp_path / "thesis.txt", "app")


def test_a_damaged_worker_file_is_refused(tmp_path: Path) -> None:
    StateDirectory(tmp_path, "app").close()
    for damage in (b"", b"[]", b"{}", b"\xff"):
        (tmp_path / "worker.json").write_bytes(damage)
        with pytest.raises(ConfigurationError, match="damaged"):
            StateDirectory(tmp_path, "app")


@pytest.mark.parametrize(
    "other",
    [
        replace(IDENTITY, app="other"),
        replace(IDENTITY, changelog="app-balances-changelog-2"),
        replace(IDENTITY, changelog_id="topic-id-2"),
    ],
)
@pytest.mark.parametrize("kind", ["rocksdict", "memory"])
def test_a_store_of_another_identity_is_refused(tmp_path: Path, kind: str, other: StoreIdentity) -> None:
    state = StateDirectory(tmp_path, "app") if kind == "rocksdict" else MemoryState()
    partition = state.open_partition(IDENTITY)
    partition.commit(3)
    partition.close()
    with pytest.raises(ConfigurationError, match="belongs to something else"):
        state.open_partition(other)
    assert state.open_partition(replace(IDENTITY, changelog_id=None)).checkpoint == 3
    state.close()


def test_the_files_of_another_partition_put_in_place_are_refused(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, "app")
    state.open_partition(IDENTITY).close()
    (tmp_path / "balances" / "0").rename(tmp_path / "balances" / "1")
    with pytest.raises(ConfigurationError, match="partition 0, not 1"):
        state.open_partition(replace(IDENTITY, partition=1))
    (tmp_path / "balances").rename(tmp_path / "totals")
    with pytest.raises(ConfigurationError, match="table 'balances', not 'totals'"):
        state.open_partition(replace(IDENTITY, table="totals", partition=1))
    state.close()


def test_a_store_of_another_format_is_to_be_restored(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, "app")
    state.open_partition(IDENTITY).close()
    file = tmp_path / "balances" / "0" / "identity.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StateCorrupted, match="format 2, not 1"):
        state.open_partition(IDENTITY)
    state.close()


def test_files_of_somebody_else_are_refused_and_untouched(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, "app")
    foreign = tmp_path / "balances" / "0" / "CURRENT"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("MANIFEST-000005\n")
    with pytest.raises(ConfigurationError, match="not a store of ours"):
        state.open_partition(IDENTITY)
    assert [entry.name for entry in foreign.parent.iterdir()] == ["CURRENT"]
    state.close()


@pytest.mark.parametrize("table", ["", "..", "a/b", "../b", ".hidden", "a" * 201])
def test_a_table_name_is_no_path(table: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a table's name"):
        replace(IDENTITY, table=table)


def test_a_store_half_made_or_half_wiped_is_made_again(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path, "app")
    partition = tmp_path / "balances" / "0"
    partition.mkdir(parents=True)
    (partition / "identity.json.new").write_text("{")  # killed while it wrote its identity
    state.open_partition(IDENTITY).close()
    for file in partition.iterdir():  # killed after it
        if file.name != "identity.json":
            file.unlink()
    with pytest.raises(StateCorrupted):
        state.open_partition(IDENTITY)
    partition.rename(tmp_path / "balances" / "0.wiped")  # killed within the wipe
    state.open_partition(IDENTITY)
    assert sorted(entry.name for entry in (tmp_path / "balances").iterdir()) == ["0"]
    state.close()


def descriptors() -> set[str]:
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    memory = SharedMemory(1 << 20, 1 << 20)

    def work() -> None:
        state = StateDirectory(tmp_path / "state", "app", memory)
        for number in range(4):
            inbox = state.open_partition(replace(IDENTITY, table="inbox", partition=number), retention_s=10)
            inbox.restore([(b"%d" % n, b"x" * 100) for n in range(2_000)], 1 + (inbox.checkpoint or 0), newest_s=100)
            inbox.advance(100)
            unit = inbox.begin()
            next(unit.items())
            unit.set(b"a", b"1")
            unit.merge()
        state.close()

    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    work()  # RocksDB starts the threads of the process once
    open_files, running, python_threads = descriptors(), threads(), threading.active_count()
    for _ in range(10):
        work()
    assert not {name for name in descriptors() - open_files if str(tmp_path) in name}
    assert threads() <= running
    assert threading.active_count() == python_threads
    assert memory.write_buffers.get_usage() < 1 << 20
