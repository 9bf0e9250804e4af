"""Laws of the windows of a task, one each; `test_windows_model.py` has them all at once over seeds.

0         60        120       180   windows of 60, grace 10
|---------|---------|---------|
"""

from __future__ import annotations

from typing import Any

import pytest

from streamapp.state import MemoryState, StoreIdentity, TablePartition
from streamapp.windows.logic import WindowLogic
from streamapp.windows.progress import NEVER, Progress
from streamapp.windows.rows import KEPT, OPEN, WindowRow, all_windows, end_and_key, progress_of, row_key, windows_of
from streamapp.windows.windowers import Hopping, Tumbling, Window


def one_more(state: Any) -> int:
    return (state or 0) + 1


class Counting:
    """Rows that count what is read of them."""

    def __init__(self, unit: Any) -> None:
        self.unit = unit
        self.read = 0

    def get(self, key: bytes) -> bytes | None:
        self.read += 1
        found: bytes | None = self.unit.get(key)
        return found

    def set(self, key: bytes, value: bytes) -> None:
        self.unit.set(key, value)

    def delete(self, key: bytes) -> None:
        self.unit.delete(key)

    def items(self, **bounds: bytes) -> Any:
        for row in self.unit.items(**bounds):
            self.read += 1
            yield row


@pytest.fixture
def store() -> TablePartition:
    return MemoryState().open_partition(StoreIdentity("app", "totals", 0, "log"))


def test_a_window_closes_when_the_watermark_reaches_its_end_and_the_grace(store: TablePartition) -> None:
    book, unit = WindowLogic(Tumbling(60), grace_ms=10), store.begin()
    book.add(unit, b"a", 59, one_more)
    assert book.see(unit, 69) == []
    (final,) = book.see(unit, 70)
    assert (final.key, final.window, final.revision, final.final, final.state) == (b"a", Window(0, 60), 2, True, 1)


def test_a_record_within_grace_counts_and_one_beyond_is_expired(store: TablePartition) -> None:
    book, unit = WindowLogic(Tumbling(60), grace_ms=10), store.begin()
    book.add(unit, b"a", 69, one_more)
    assert book.add(unit, b"a", 59, one_more).expired == []
    book.add(unit, b"a", 70, one_more)
    assert book.add(unit, b"a", 59, one_more).expired == [Window(0, 60)]


def test_a_closed_window_is_closed_for_keys_that_never_counted_in_it(store: TablePartition) -> None:
    book, unit = WindowLogic(Tumbling(60)), store.begin()
    book.add(unit, b"a", 100, one_more)
    assert book.add(unit, b"b", 10, one_more).expired == [Window(0, 60)]


def test_a_record_expired_for_some_of_its_windows_counts_in_the_others(store: TablePartition) -> None:
    book, unit = WindowLogic(Hopping(60, 20)), store.begin()
    book.add(unit, b"a", 100, one_more)
    added = book.add(unit, b"a", 79, one_more)
    assert added.expired == [Window(20, 80), Window(40, 100)]
    assert [(it.window, it.state) for it in added.upserts] == [(Window(60, 120), 2)]


def test_the_watermark_does_not_go_back(store: TablePartition) -> None:
    book, unit = WindowLogic(Tumbling(60)), store.begin()
    for time, watermark in ((5, 5), (3, 5), (9, 9), (0, 9)):
        book.see(unit, time)
        assert progress_of(unit).watermark == watermark


def test_a_silence_closes_every_window_that_has_begun_and_for_good(store: TablePartition) -> None:
    book, unit = WindowLogic(Hopping(60, 20), grace_ms=1000), store.begin()
    book.add(unit, b"a", 65, one_more)
    assert [(it.window, it.final) for it in book.silence(unit)] == [
        (Window(20, 80), True),
        (Window(40, 100), True),
        (Window(60, 120), True),
    ]
    assert book.silence(unit) == []
    assert progress_of(unit).watermark == 65, "a silence is no event time"
    added = book.add(unit, b"b", 85, one_more)
    assert added.expired == [Window(40, 100), Window(60, 120)]
    assert [it.window for it in added.upserts] == [Window(80, 140)]


def test_a_silence_where_nothing_is_open_closes_nothing(store: TablePartition) -> None:
    book, unit = WindowLogic(Tumbling(60)), store.begin()
    book.see(unit, 30)
    assert book.silence(unit) == []
    assert book.add(unit, b"a", 30, one_more).expired == []


def test_an_open_window_is_upserted_as_often_as_the_watermark_allows(store: TablePartition) -> None:
    book, unit = WindowLogic(Tumbling(1000), every_ms=10), store.begin()
    sent = [
        [(it.revision, it.state) for it in book.add(unit, b"a", time, one_more).upserts]
        for time in (100, 105, 110, 90, 119, 121)
    ]
    assert sent == [[(1, 1)], [], [(2, 3)], [], [], [(3, 6)]]


def test_only_finals_are_sent_where_that_is_asked_for(store: TablePartition) -> None:
    book, unit = WindowLogic(Tumbling(60), every_ms=None), store.begin()
    assert [book.add(unit, b"a", time, one_more).upserts for time in (1, 2, 3)] == [[], [], []]
    (final,) = book.see(unit, 60)
    assert (final.revision, final.final, final.state) == (1, True, 3)


def test_a_unit_closes_no_more_than_its_bound_and_the_next_goes_on(store: TablePartition) -> None:
    book, unit = WindowLogic(Tumbling(60), closings_max=4), store.begin()
    for number in range(10):
        book.add(unit, b"%d" % number, 5, one_more)
    assert len(book.see(unit, 60)) == 4
    assert book.is_due(unit)
    assert book.add(unit, b"9", 5, one_more).expired == [Window(0, 60)], "it is closed, though its final is still owed"
    assert [len(book.close(unit)) for _ in range(3)] == [4, 2, 0]
    assert not book.is_due(unit)


def test_closing_costs_what_is_due_and_not_what_is_open(store: TablePartition) -> None:
    book, unit = WindowLogic(Tumbling(60), grace_ms=10_000), store.begin()
    for number in range(3000):
        book.add(unit, b"open", 60 * number, one_more)
    assert len(list(all_windows(unit, OPEN))) > 150
    unit.merge()
    store.commit(1)
    unit = store.begin()
    (due, *_) = list(all_windows(unit, OPEN))
    store_read = Counting(unit)
    finals = book.see(store_read, due[1].end + 10_000)
    assert len(finals) == 1
    assert store_read.read == 1 + len(finals) + 1, "the progress, what is due, and the first that is not"
    quiet = Counting(unit)
    book.see(quiet, due[1].end + 10_001)
    assert quiet.read == 1, "nothing is due, and nothing is looked at"


def test_a_closed_window_is_kept_for_the_retention(store: TablePartition) -> None:
    book, unit = WindowLogic(Tumbling(60), retention_ms=100, tombstones=True), store.begin()
    book.add(unit, b"a", 5, one_more)
    book.see(unit, 60)
    assert [(key, window) for key, window, _ in all_windows(unit, KEPT)] == [(b"a", Window(0, 60))]
    assert book.see(unit, 159) == []
    (gone,) = book.see(unit, 160)
    assert (gone.key, gone.window, gone.state) == (b"a", Window(0, 60), None)
    assert not list(all_windows(unit, KEPT))


def test_the_windows_of_a_key_are_found_among_those_of_others(store: TablePartition) -> None:
    book, unit = WindowLogic(Hopping(60, 20), grace_ms=60), store.begin()
    for key in (b"a", b"aa", b"", b"\x00", b"z" * 300):
        book.add(unit, key, 65, one_more)
    book.add(unit, b"a", 90, one_more)
    for key, starts in ((b"a", [20, 40, 60, 80]), (b"aa", [20, 40, 60]), (b"", [20, 40, 60]), (b"b", [])):
        assert [window.start for window, _ in windows_of(unit, OPEN, key)] == starts
    assert [window.start for window, _ in windows_of(unit, OPEN, b"a", from_end=101)] == [60, 80]


def test_rows_lie_in_the_order_of_their_ends() -> None:
    ends = [0, 1, 255, 256, 65_536, 4_102_444_800_000, NEVER]
    keys = [row_key(OPEN, end, key) for end in ends for key in (b"", b"\x00", b"a", b"\xff")]
    assert keys == sorted(keys)
    assert [end_and_key(raw) for raw in keys] == [(end, key) for end in ends for key in (b"", b"\x00", b"a", b"\xff")]


def test_what_is_stored_comes_back() -> None:
    row = WindowRow(-240_000, 7, 4_102_444_800_000, b'{"count":1}')
    assert WindowRow.unpack(row.pack()) == row
    progress = Progress(5, 3, 60, NEVER)
    assert Progress.unpack(progress.pack()) == progress
    for unpack in (WindowRow.unpack, Progress.unpack):
        with pytest.raises(ValueError, match="is no"):
            unpack(b'"alice"')
