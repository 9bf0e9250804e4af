"""One suite for every kind of partition: rocksdict and memory, with and without retention."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamapp.errors import ConfigurationError
from streamapp.state import MemoryState, StateDirectory, StoreIdentity, TablePartition, UnitEnded

IDENTITY = StoreIdentity("app", "balances", 0, "app-balances-changelog")
Open = Callable[[], TablePartition]


@pytest.fixture(params=["rocksdict", "rocksdict-retention", "memory", "memory-retention"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(kind: str, tmp_path: Path) -> Iterator[Open]:
    """Opens the partition; called again, closes it first."""
    state = StateDirectory(tmp_path / "state", "app") if kind.startswith("rocksdict") else MemoryState()
    retention_s = 1_000 if kind.endswith("retention") else None
    partitions: list[TablePartition] = []

    def open_again() -> TablePartition:
        if partitions:
            partitions.pop().close()
        partition = state.open_partition(IDENTITY, retention_s)
        partition.advance(5_000)
        partitions.append(partition)
        return partition

    yield open_again
    state.close()


def write(partition: TablePartition, **values: str | None) -> None:
    unit = partition.begin()
    for key, value in values.items():
        if value is None:
            unit.delete(key.encode())
        else:
            unit.set(key.encode(), value.encode())
    unit.merge()


def rows(partition: TablePartition) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in partition.committed.items()}


def test_a_unit_sees_its_own_writes_then_finished_ones_then_the_disk(opened: Open) -> None:
    partition = opened()
    write(partition, disk="1", both="1", gone="1")
    partition.commit(1)
    write(partition, both="2", overlay="2", gone=None)

    unit = partition.begin()
    unit.set(b"own", b"3")
    unit.delete(b"overlay")

    assert unit.get(b"disk") == b"1"
    assert unit.get(b"both") == b"2"
    assert unit.get(b"own") == b"3"
    assert unit.get(b"overlay") is None
    assert unit.get(b"gone") is None
    assert not unit.contains(b"gone")
    assert unit.contains(b"own")
    assert dict(unit.items()) == {b"disk": b"1", b"both": b"2", b"own": b"3"}
    unit.drop()
    assert dict(partition.begin().items()) == {b"disk": b"1", b"both": b"2", b"overlay": b"2"}


def test_open_units_do_not_see_each_other(opened: Open) -> None:
    partition = opened()
    first, second = partition.begin(), partition.begin()
    first.set(b"a", b"1")
    second.set(b"b", b"2")
    assert second.get(b"a") is None
    assert dict(second.items()) == {b"b": b"2"}
    first.merge()
    assert second.get(b"a") == b"1"
    second.drop()
    assert list(partition.changes()) == [(b"a", b"1")]


def test_changes_are_one_a_key_in_the_order_of_the_first_write(opened: Open) -> None:
    partition = opened()
    write(partition, z="1", a="1")
    write(partition, m=None, z="2")
    write(partition, a=None)
    assert list(partition.changes()) == [(b"z", b"2"), (b"a", None), (b"m", None)]
    partition.commit(4)
    assert list(partition.changes()) == []
    assert rows(partition) == {"z": "2"}


def test_outside_readers_see_committed_values_only(opened: Open) -> None:
    partition = opened()
    write(partition, a="1")
    partition.commit(1)
    write(partition, a="2", b="2")
    unit = partition.begin()
    unit.set(b"c", b"3")
    assert rows(partition) == {"a": "1"}
    assert partition.committed.get(b"a") == b"1"
    assert partition.committed.get(b"b") is None
    unit.merge()
    partition.commit(2)
    assert rows(partition) == {"a": "2", "b": "2", "c": "3"}


def test_values_and_checkpoint_are_there_after_opening_again(opened: Open) -> None:
    partition = opened()
    assert partition.checkpoint is None
    write(partition, a="1", b="1")
    partition.commit(7)
    write(partition, b=None)
    partition.commit(8)
    write(partition, c="uncommitted")
    partition = opened()
    assert partition.checkpoint == 8
    assert rows(partition) == {"a": "1"}


def test_an_abort_forgets_the_overlay_and_ends_open_units(opened: Open) -> None:
    partition = opened()
    write(partition, a="1")
    partition.commit(1)
    write(partition, a="2", b="2")
    unit = partition.begin()
    unit.set(b"c", b"3")
    partition.abort()
    assert list(partition.changes()) == []
    with pytest.raises(UnitEnded):
        unit.merge()
    assert partition.begin().get(b"a") == b"1"
    assert partition.checkpoint == 1


def test_a_commit_moves_the_checkpoint_alone_too_and_never_back(opened: Open) -> None:
    partition = opened()
    partition.commit(5)
    partition.commit(5)
    assert opened().checkpoint == 5
    with pytest.raises(ValueError, match="behind"):
        opened().commit(4)
    with pytest.raises(ValueError, match="behind"):
        opened().restore([], 4, newest_s=5_000)


def test_restore_applies_records_in_order_past_the_overlay(opened: Open) -> None:
    partition = opened()
    records = [(b"%05d" % n, b"%d" % n) for n in range(12_000)]
    records += [(b"00001", b"again"), (b"00002", None), (b"never", None)]
    partition.restore(iter(records), 12_003, newest_s=5_000)
    partition = opened()
    assert partition.checkpoint == 12_003
    assert partition.committed.get(b"00001") == b"again"
    assert partition.committed.get(b"00002") is None
    assert [key for key, _ in partition.committed.items()] == [b"%05d" % n for n in range(12_000) if n != 2]
    partition.restore([(b"00001", None)], 12_004, newest_s=5_000)
    assert partition.committed.get(b"00001") is None


def test_restore_refuses_to_mix_with_uncommitted_writes(opened: Open) -> None:
    partition = opened()
    write(partition, a="1")
    with pytest.raises(UnitEnded, match="uncommitted"):
        partition.restore([(b"a", b"2")], 1, newest_s=5_000)


def test_ranges_in_key_order_over_all_layers(opened: Open) -> None:
    partition = opened()
    write(partition, **{"a|1": "disk", "a|3": "disk", "b|1": "disk", "c": "disk"})
    partition.commit(1)
    write(partition, **{"a|2": "overlay", "a|3": None})
    unit = partition.begin()
    unit.set(b"a|0", b"own")
    unit.set(b"a|1", b"own")
    assert list(unit.items(prefix=b"a|")) == [(b"a|0", b"own"), (b"a|1", b"own"), (b"a|2", b"overlay")]
    assert [key for key, _ in unit.items(prefix=b"a|", start=b"a|1")] == [b"a|1", b"a|2"]
    assert [key for key, _ in unit.items(start=b"a|2", end=b"c")] == [b"a|2", b"b|1"]
    assert [key for key, _ in unit.items(prefix=b"a|", end=b"a|2")] == [b"a|0", b"a|1"]
    assert list(unit.items(prefix=b"d")) == []


def test_a_prefix_that_ends_in_the_highest_byte(opened: Open) -> None:
    partition = opened()
    unit = partition.begin()
    for key in (b"\xfe", b"\xff", b"\xff\xff", b"\xff\xff\x01", b"a\xff", b"a\xff\x00", b"b"):
        unit.set(key, b"1")
    unit.merge()
    partition.commit(1)
    unit = partition.begin()
    assert [key for key, _ in unit.items(prefix=b"\xff")] == [b"\xff", b"\xff\xff", b"\xff\xff\x01"]
    assert [key for key, _ in unit.items(prefix=b"a\xff")] == [b"a\xff", b"a\xff\x00"]


def test_keys_and_values_may_be_any_bytes(opened: Open) -> None:
    partition = opened()
    unit = partition.begin()
    odd = {b"": b"", b"checkpoint": b"not the checkpoint", b"\x00": b"\x00", b"k" * 70_000: b"v" * 300_000}
    for key, value in odd.items():
        unit.set(key, value)
    unit.merge()
    partition.commit(3)
    partition = opened()
    assert dict(partition.committed.items()) == odd
    assert partition.begin().contains(b"")
    assert partition.checkpoint == 3


def test_deleting_while_iterating_over_more_rows_than_a_chunk(opened: Open) -> None:
    partition = opened()
    partition.restore([(b"%05d" % n, b"x") for n in range(2_000)], 2_000, newest_s=5_000)
    unit = partition.begin()
    for row in unit.items():
        unit.delete(row[0])
    assert list(unit.items()) == []
    unit.merge()
    partition.commit(4_000)
    assert partition.committed.items() == []


def test_pages_of_committed_rows(opened: Open) -> None:
    partition = opened()
    partition.restore([(b"%05d" % n, b"x") for n in range(1_500)], 1_500, newest_s=5_000)
    assert partition.committed.approximate_count() == 1_500
    seen: list[bytes] = []
    start = b""
    while page := partition.committed.items(start=start, limit=400):
        seen += [key for key, _ in page]
        start = page[-1][0] + b"\0"
    assert seen == [b"%05d" % n for n in range(1_500)]


@pytest.mark.parametrize("end", ["merge", "drop"])
def test_a_unit_that_ended_refuses_every_use(opened: Open, end: str) -> None:
    partition = opened()
    unit = partition.begin()
    unit.set(b"a", b"1")
    getattr(unit, end)()
    unit.drop()
    for use in (
        lambda: unit.get(b"a"),
        lambda: unit.contains(b"a"),
        lambda: unit.set(b"a", b"2"),
        lambda: unit.delete(b"a"),
        lambda: list(unit.items()),
        unit.merge,
    ):
        with pytest.raises(UnitEnded):
            use()
    assert list(partition.changes()) == ([(b"a", b"1")] if end == "merge" else [])


def test_a_unit_left_open_over_a_commit_cannot_merge(opened: Open) -> None:
    partition = opened()
    write(partition, a="1")
    unit = partition.begin()
    unit.set(b"b", b"1")
    partition.commit(1)
    with pytest.raises(UnitEnded):
        unit.merge()


def test_after_close_every_use_raises_and_closing_again_does_nothing(opened: Open) -> None:
    partition = opened()
    write(partition, a="1")
    unit = partition.begin()
    unit.set(b"b", b"1")
    partition.close()
    partition.close()
    partition.abort()
    for use in (
        partition.begin,
        partition.changes,
        unit.merge,
        lambda: unit.get(b"x"),
        lambda: partition.commit(1),
        lambda: partition.restore([], 1, newest_s=5_000),
        lambda: partition.committed.get(b"a"),
        partition.committed.items,
        partition.committed.approximate_count,
    ):
        with pytest.raises(UnitEnded):
            use()


def test_reopening_works_at_once_with_units_and_iterations_left_lying_about(opened: Open) -> None:
    partition = opened()
    partition.restore([(b"%05d" % n, b"x") for n in range(2_000)], 2_000, newest_s=5_000)
    unit = partition.begin()
    half_read = unit.items()
    next(half_read)
    gc.disable()  # a cycle must not be what closes the database
    try:
        again = opened()
    finally:
        gc.enable()
    assert again.checkpoint == 2_000
    assert again.begin().contains(b"00000")


def test_one_partition_is_not_opened_twice(kind: str, tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state", "app") if kind.startswith("rocksdict") else MemoryState()
    partition = state.open_partition(IDENTITY)
    with pytest.raises(ConfigurationError, match="open already"):
        state.open_partition(IDENTITY)
    partition.close()
    state.open_partition(IDENTITY)
    state.close()


def test_wiped_is_empty(kind: str, tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state", "app") if kind.startswith("rocksdict") else MemoryState()
    partition = state.open_partition(IDENTITY)
    write(partition, a="1")
    partition.commit(1)
    with pytest.raises(ConfigurationError, match="is open"):
        state.wipe("balances", 0)
    partition.close()
    state.wipe("balances", 0)
    state.wipe("balances", 0)
    partition = state.open_partition(IDENTITY)
    assert partition.checkpoint is None
    assert rows(partition) == {}
    state.close()
