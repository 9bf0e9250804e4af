"""Any order of units, commits, aborts, restores and reopenings leaves what two plain dictionaries say."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamapp.state import MemoryState, SharedMemory, StateDirectory, StoreIdentity, StoreTransaction, TablePartition

IDENTITY = StoreIdentity("app", "balances", 0, "app-balances-changelog")
MEMORY = SharedMemory(1 << 20, 1 << 20)

keys = st.sampled_from([b"", b"a", b"a\x00", b"ab", b"b", b"b\xff", b"\xff", b"\xff\xff"])
values = st.binary(max_size=4)


class PartitionModel(RuleBasedStateMachine):
    """`committed`, `sealed`, `finished` and `staged`: what the disk, both overlays and the open unit must show."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="state-model-"))
        self.committed: dict[bytes, bytes] = {}
        #: What is in flight; None while nothing is.
        self.sealed: dict[bytes, bytes | None] | None = None
        self.finished: dict[bytes, bytes | None] = {}
        self.staged: dict[bytes, bytes | None] = {}
        self.checkpoint = 0
        self.time_s = 1_000

    @initialize(disk=st.booleans(), retention_s=st.sampled_from([None, 1_000_000]))
    def start(self, disk: bool, retention_s: int | None) -> None:
        self.disk, self.retention_s = disk, retention_s
        self.state: StateDirectory | MemoryState = MemoryState()
        self.open()

    def open(self) -> None:
        if self.disk:
            self.state = StateDirectory(self.root / "state", "app", MEMORY)
        self.partition: TablePartition = self.state.open_partition(IDENTITY, self.retention_s)
        self.partition.advance(self.time_s)
        self.unit: StoreTransaction = self.partition.begin()

    def view(self) -> dict[bytes, bytes]:
        return self.layered(self.sealed or {}, self.finished, self.staged)

    def layered(self, *layers: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
        rows: dict[bytes, bytes | None] = {**self.committed}
        for layer in layers:
            rows |= layer
        return {key: value for key, value in rows.items() if value is not None}

    @rule(key=keys, value=values)
    def set_value(self, key: bytes, value: bytes) -> None:
        self.unit.set(key, value)
        self.staged[key] = value

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        self.unit.delete(key)
        self.staged[key] = None

    @rule()
    def merge(self) -> None:
        self.unit.merge()
        self.finished |= self.staged
        self.staged = {}
        self.unit = self.partition.begin()

    @rule()
    def drop(self) -> None:
        self.unit.drop()
        self.staged = {}
        self.unit = self.partition.begin()

    @precondition(lambda self: self.sealed is None)
    @rule()
    def seal(self) -> None:
        self.drop()
        assert list(self.partition.changes()) == list(self.finished.items())
        assert list(self.partition.seal()) == list(self.finished.items())
        self.sealed, self.finished = self.finished or None, {}
        self.unit = self.partition.begin()

    @rule()
    def commit(self) -> None:
        """What is in flight, while a unit is open; or all that has finished."""
        if self.sealed is None:
            self.seal()
        self.checkpoint += 1
        self.partition.commit(self.checkpoint)
        self.committed, self.sealed = self.layered(self.sealed or {}), None

    @rule()
    def abort(self) -> None:
        self.partition.abort()
        self.sealed, self.finished, self.staged = None, {}, {}
        self.unit = self.partition.begin()

    @rule(records=st.lists(st.tuples(keys, st.none() | values), max_size=5))
    def restore(self, records: list[tuple[bytes, bytes | None]]) -> None:
        self.abort()
        self.checkpoint += len(records)
        self.partition.restore(records, self.checkpoint, newest_s=self.time_s)
        for key, value in records:
            self.finished[key] = value
        self.committed = self.view()
        self.finished = {}
        self.unit = self.partition.begin()

    @rule(step_s=st.integers(0, 600_000))
    def advance(self, step_s: int) -> None:
        self.time_s += min(step_s, 300_000) if self.time_s < 900_000 else 0
        self.partition.advance(self.time_s)

    @rule()
    def reopen(self) -> None:
        if self.disk:
            self.state.close()
        else:
            self.partition.close()
        self.sealed, self.finished, self.staged = None, {}, {}
        self.open()

    @rule(start=keys, end=st.none() | keys, prefix=keys)
    def ranges(self, start: bytes, end: bytes | None, prefix: bytes) -> None:
        def expected(rows: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
            inside = (key for key in rows if key.startswith(prefix) and key >= start and (end is None or key < end))
            return [(key, rows[key]) for key in sorted(inside)]

        assert list(self.unit.items(prefix=prefix, start=start, end=end)) == expected(self.view())
        assert self.partition.committed.items(prefix=prefix, start=start, end=end) == expected(self.committed)
        assert (
            self.partition.committed.items(start=start, limit=2)
            == [(key, self.committed[key]) for key in sorted(self.committed) if key >= start][:2]
        )

    @invariant()
    def reads_agree(self) -> None:
        if not hasattr(self, "partition"):
            return
        view = self.view()
        for key in (b"", b"a", b"a\x00", b"ab", b"b", b"b\xff", b"\xff", b"\xff\xff"):
            assert self.unit.get(key) == view.get(key)
            assert self.unit.contains(key) == (key in view)
            assert self.partition.committed.get(key) == self.committed.get(key)
        assert (self.partition.checkpoint or 0) == self.checkpoint

    def teardown(self) -> None:
        if hasattr(self, "partition"):
            self.state.close()
        shutil.rmtree(self.root)


PartitionModel.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
TestPartitionModel = PartitionModel.TestCase
