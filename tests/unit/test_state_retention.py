"""An inbox forgets by append time, whole segments at once, and never an id younger than the retention."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.errors import StateCorrupted
from streamapp.state import MemoryState, StateDirectory, StoreIdentity, TablePartition, UnitEnded
from streamapp.state.segments import is_expired, segment_end_s

IDENTITY = StoreIdentity("app", "inbox", 0, "app-inbox-changelog")
RETENTION_S = 100


@pytest.fixture(params=["rocksdict", "memory"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateDirectory | MemoryState]:
    opened = StateDirectory(tmp_path / "state", "app") if request.param == "rocksdict" else MemoryState()
    yield opened
    opened.close()


def mark(partition: TablePartition, key: bytes, value: bytes = b"seen") -> None:
    unit = partition.begin()
    unit.set(key, value)
    unit.merge()
    partition.commit((partition.checkpoint or 0) + 1)


def seen(partition: TablePartition) -> list[bytes]:
    return [key for key, _ in partition.committed.items()]


def test_ids_older_than_the_retention_go_with_their_segment(state: StateDirectory | MemoryState) -> None:
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    for time_s in range(1_000, 1_200, 10):
        inbox.advance(time_s)
        mark(inbox, b"%d" % time_s)
    assert seen(inbox)[0] == b"1050"  # 1190 - 100 = 1090: the segment that ends at 1050 is gone, that at 1100 is not
    assert inbox.begin().contains(b"1050")
    assert not inbox.begin().contains(b"1040")
    assert len(inbox._storage.segments) == 3
    inbox.advance(1_200)
    assert seen(inbox)[0] == b"1100"


def test_many_keys_at_once_are_found_as_one_by_one(state: StateDirectory | MemoryState) -> None:
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    for time_s in (1_000, 1_060, 1_120):  # a segment each
        inbox.advance(time_s)
        mark(inbox, b"%d" % time_s, b"of %d" % time_s)
        mark(inbox, b"again", b"of %d" % time_s)
    unit = inbox.begin()
    unit.set(b"sealed", b"new")
    unit.set(b"1060", b"newer")
    unit.delete(b"1000")
    unit.merge()
    keys = [b"1120", b"unknown", b"again", b"1000", b"sealed", b"1060"]
    assert len(inbox._storage.segments) == 3
    assert inbox.read_all(keys) == [b"of 1120", None, b"of 1120", b"of 1000", None, b"of 1060"]
    inbox.seal()
    assert inbox.read_all(keys) == [b"of 1120", None, b"of 1120", None, b"new", b"newer"]
    assert inbox.read_all(keys) == [inbox.begin().get(key) for key in keys]
    assert inbox.read_all([]) == []


@given(
    times=st.lists(st.integers(0, 3_000), min_size=1, max_size=60),
    retention_s=st.integers(1, 400),
)
def test_no_id_younger_than_the_retention_is_forgotten_in_any_order(times: list[int], retention_s: int) -> None:
    inbox = MemoryState().open_partition(IDENTITY, retention_s)
    first_s: dict[bytes, int] = {}
    newest_s = 0
    for n, time_s in enumerate(times):
        newest_s = max(newest_s, time_s)
        inbox.advance(time_s)
        assert len(inbox._storage.segments) <= 4
        unit = inbox.begin()
        for key, written_s in first_s.items():
            if written_s > newest_s - retention_s:
                assert unit.contains(key)
        unit.set(b"%d" % n, b"")
        first_s[b"%d" % n] = time_s
        unit.merge()
        inbox.commit(n)


@given(st.integers(0, 10**10), st.integers(1, 10**7), st.integers(0, 10**10))
def test_a_segment_expires_only_when_its_youngest_key_has(written_s: int, retention_s: int, now_s: int) -> None:
    end_s = segment_end_s(written_s, retention_s)
    assert end_s > written_s
    if is_expired(end_s, now_s, retention_s):
        assert now_s - written_s > retention_s
    if now_s - written_s >= 2 * retention_s + 1:
        assert is_expired(end_s, now_s, retention_s)


def test_a_topic_that_lags_behind_holds_its_ids(state: StateDirectory | MemoryState) -> None:
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    inbox.advance(1_000)
    mark(inbox, b"slow topic")
    inbox.advance(2_000, oldest_s=1_090)
    mark(inbox, b"fast topic")
    assert seen(inbox) == [b"fast topic", b"slow topic"]
    inbox.advance(2_001, oldest_s=1_150)
    assert seen(inbox) == [b"fast topic"]


def test_time_does_not_go_back(state: StateDirectory | MemoryState) -> None:
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    inbox.advance(1_000)
    mark(inbox, b"young")
    inbox.advance(10)
    mark(inbox, b"replayed")
    inbox.close()
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    inbox.advance(20)
    mark(inbox, b"replayed again")
    assert inbox._storage.segments == [1_050]
    assert seen(inbox) == [b"replayed", b"replayed again", b"young"]


def test_an_id_written_again_is_kept_from_then_on_and_the_newest_value_counts(
    state: StateDirectory | MemoryState,
) -> None:
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    inbox.advance(1_000)
    mark(inbox, b"id", b"FAILED")
    inbox.advance(1_060)
    mark(inbox, b"id", b"PROCESSED")
    assert inbox.begin().get(b"id") == b"PROCESSED"
    assert inbox.committed.items() == [(b"id", b"PROCESSED")]
    inbox.advance(1_155)
    assert inbox.begin().get(b"id") == b"PROCESSED"
    unit = inbox.begin()
    unit.delete(b"id")
    unit.merge()
    inbox.commit(9)
    assert not inbox.begin().contains(b"id")


def test_a_delete_reaches_every_segment(state: StateDirectory | MemoryState) -> None:
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    inbox.advance(1_000)
    mark(inbox, b"id", b"old")
    inbox.advance(1_060)
    mark(inbox, b"id", b"new")
    unit = inbox.begin()
    unit.delete(b"id")
    unit.merge()
    inbox.commit(9)
    assert not inbox.begin().contains(b"id")
    assert inbox.committed.items() == []


def test_segments_and_checkpoint_are_there_after_opening_again(state: StateDirectory | MemoryState) -> None:
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    for time_s in (1_000, 1_060, 1_110):
        inbox.advance(time_s)
        mark(inbox, b"%d" % time_s)
    inbox.close()
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    assert inbox.checkpoint == 3
    assert inbox._storage.segments == [1_150, 1_100, 1_050]
    assert seen(inbox) == [b"1000", b"1060", b"1110"]
    inbox.advance(1_160)
    assert seen(inbox) == [b"1060", b"1110"]
    inbox.close()
    assert seen(state.open_partition(IDENTITY, RETENTION_S)) == [b"1060", b"1110"]


def test_another_retention_setting_keeps_the_promise_for_old_segments(state: StateDirectory | MemoryState) -> None:
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    inbox.advance(1_000)
    mark(inbox, b"old")
    inbox.close()
    inbox = state.open_partition(IDENTITY, 1_000)
    inbox.advance(1_900)
    mark(inbox, b"new")
    assert seen(inbox) == [b"new", b"old"]
    inbox.close()
    inbox = state.open_partition(IDENTITY, 10)
    inbox.advance(1_900)
    assert seen(inbox) == [b"new"]
    inbox.advance(2_100)
    assert seen(inbox) == []


def test_restored_ids_are_kept_longer_never_shorter(state: StateDirectory | MemoryState) -> None:
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    inbox.restore([(b"a", b"1"), (b"b", b"1"), (b"a", None)], 3, newest_s=1_000)
    inbox.restore([(b"c", b"1")], 4, newest_s=1_000)
    assert inbox._storage.segments == [1_050]
    inbox.advance(500)  # the backlog is read from before the restore's newest record
    mark(inbox, b"backlog")
    assert seen(inbox) == [b"b", b"backlog", b"c"]
    inbox.advance(1_149)
    assert seen(inbox) == [b"b", b"backlog", b"c"]
    inbox.advance(1_150)
    assert seen(inbox) == []


def test_writing_before_the_time_is_known_is_refused(state: StateDirectory | MemoryState) -> None:
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    unit = inbox.begin()
    unit.set(b"a", b"1")
    unit.merge()
    with pytest.raises(UnitEnded, match="append time"):
        inbox.commit(1)
    with pytest.raises(UnitEnded, match="uncommitted"):
        inbox.restore([], 1, newest_s=1)
    inbox.abort()
    with pytest.raises(ValueError, match="newest_s"):
        inbox.restore([(b"a", b"1")], 1)


def test_dropping_a_segment_leaves_nothing_of_it_on_disk(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state", "app")
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    path = tmp_path / "state" / "inbox" / "0"
    inbox.restore([(b"%06d" % n, b"\xab" * 50) for n in range(50_000)], 50_000, newest_s=1_000)
    inbox.close()
    assert sum(file.stat().st_size for file in path.glob("*.sst")) > 200_000
    inbox = state.open_partition(IDENTITY, RETENTION_S)
    inbox.advance(2_000)
    inbox.close()
    assert sum(file.stat().st_size for file in path.glob("*.sst")) < 20_000
    state.close()


def test_a_store_kept_without_retention_is_not_read_as_one_with(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state", "app")
    state.open_partition(IDENTITY).close()
    with pytest.raises(StateCorrupted, match="segments"):
        state.open_partition(IDENTITY, RETENTION_S)
    state.close()
