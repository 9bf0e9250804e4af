"""Windows against a model of a few lines, over thousands of seeds: WINDOW_SEEDS= runs more, WINDOW_SEED= one.

The model is `tests/support/window_model.py`, which shares no code with what it judges.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streamapp.state import MemoryState, StoreIdentity
from streamapp.windows import rows as layout
from streamapp.windows.logic import WindowLogic, WindowUpsert
from streamapp.windows.windowers import Hopping, Tumbling, Window, WindowAssignment, Windower

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from window_model import WindowModel

ONE = os.environ.get("WINDOW_SEED")
SEEDS = range(int(os.environ.get("WINDOW_SEEDS", "2000")))
EDGES = (0, 951_782_400_000, 1_483_228_799_000, 1_709_164_800_000, 4_102_444_800_000)  # 1970, leap days, 2100


class Case(NamedTuple):
    """One seed's windows and records."""

    size: int
    step: int
    grace: int
    retention: int
    #: Event time between two upserts of a window; None: only its final.
    every: int | None
    records: list[tuple[str, int, int]]


def case(seed: int) -> Case:
    random_ = random.Random(seed)
    size = random_.choice([1, 2, 7, 30])
    step = random_.choice([step for step in (1, 2, 3, 7, 10, 30) if step <= size <= 10 * step])
    grace, retention = random_.choice([0, 1, size, 3 * size]), random_.choice([0, 1, size, 5 * size])
    now, records = random_.choice(EDGES), []
    for _ in range(random_.randint(1, 40)):
        now += random_.choice([0, 0, 1, size // 3, size, random_.randint(0, 4 * size)])
        late = random_.choice([0, 0, 0, 1, size, grace, grace + size, random_.randint(0, 2 * (size + grace))])
        time = max(0, now - late)
        if random_.random() < 0.3:  # the first and the last instant of a window, and the watermark that closes it
            time = max(0, time - time % step + random_.choice([-1, 0, 1, grace]))
        records.append((random_.choice("abc"), time, random_.randint(-9, 9)))
    every = random_.choice([0, 0, 1, size, None])
    return Case(size, step, grace, retention, every, records + random_.sample(records, len(records) // 5))


class Task:
    """A task's table, with units that are dropped and transactions that are aborted on the way."""

    def __init__(self, book: WindowLogic, random_: random.Random) -> None:
        self.book = book
        self.random = random_
        self.store = MemoryState().open_partition(StoreIdentity("app", "t", 0, "log"))
        self.upserts: list[WindowUpsert] = []
        self.expired: list[tuple[int, list[Any]]] = []
        self._committed = (0, 0, 0)

    def run(self, records: list[tuple[str, int, int]]) -> None:
        number = 0
        while number < len(records):
            chance = self.random.random()
            if chance < 0.1:
                self._commit(number)
            elif chance < 0.15:
                number = self._abort()
                continue
            elif chance < 0.2:
                self._unit(number, *records[number], fails=True)
            self._unit(number, *records[number])
            number += 1

    def _unit(self, number: int, key: str, time: int, value: int, *, fails: bool = False) -> None:
        unit = self.store.begin()
        seen = self.book.see(unit, time) if self.random.random() < 0.5 else []
        added = self.book.add(unit, key.encode(), time, lambda state: [*(state or []), value])
        if fails:
            unit.drop()
            return
        unit.merge()
        self.upserts += seen + added.upserts
        self._close()
        if added.expired:
            self.expired.append((number, [tuple(window) for window in added.expired]))

    def silence(self) -> None:
        self._other(self.book.silence)
        self._close()

    def _close(self) -> None:
        """Units of their own, as long as the one before left something."""
        units = 0
        while self.book.is_due(self.store.begin()):
            self._other(self.book.close)
            units += 1
            assert units < 10_000, "closing does not come to an end"

    def _other(self, work: Any) -> None:
        unit = self.store.begin()
        self.upserts += work(unit)
        unit.merge()

    def _commit(self, number: int) -> None:
        self.store.commit((self.store.checkpoint or 0) + len(self.store.changes()))
        self._committed = (number, len(self.upserts), len(self.expired))

    def _abort(self) -> int:
        self.store.abort()
        number, upserts, expired = self._committed
        del self.upserts[upserts:], self.expired[expired:]
        return number


def book_of(case: Case, random_: random.Random) -> WindowLogic:
    kind: Windower = Tumbling(case.size) if case.size == case.step else Hopping(case.size, case.step)
    bound = random_.choice([1, 3, 2000])
    return WindowLogic(kind, grace_ms=case.grace, retention_ms=case.retention, every_ms=case.every, closings_max=bound)


def shown(upsert: WindowUpsert) -> tuple[str, int, int, Any, bool]:
    return upsert.key.decode(), *upsert.window, upsert.state, upsert.final


@pytest.mark.parametrize("block", range(10))
def test_upserts_finals_and_lateness_are_the_models(block: int) -> None:
    for seed in [int(ONE)] if ONE else SEEDS[block::10]:
        given, random_ = case(seed), random.Random(~seed)
        task, model = (
            Task(book_of(given, random_), random_),
            WindowModel(given.size, given.step, given.grace, given.every),
        )
        task.run(given.records)
        for number, record in enumerate(given.records):
            model.record(number, *record)
        again = f"WINDOW_SEED={seed} pytest tests/unit/test_windows_model.py"
        assert task.expired == model.expired, again
        # An end that nobody sees coming: every window that was begun is closed, once, and with all it has.
        task.silence()
        model.close(float("inf"))
        for final in (True, False):  # a unit that stops at its bound leaves finals to the next one
            assert [shown(it) for it in task.upserts if it.final is final] == [
                it for it in model.upserts if it.final is final
            ], again
        check_revisions(task.upserts, again)
        check_rows(task, given, again)


def check_revisions(upserts: list[WindowUpsert], again: str) -> None:
    """One higher each time from 1 on, and nothing after the final."""
    revisions: dict[tuple[bytes, Window], int] = {}
    finished = set()
    for upsert in upserts:
        window = (upsert.key, upsert.window)
        assert window not in finished, again
        assert upsert.revision == revisions.get(window, 0) + 1, again
        revisions[window] = upsert.revision
        if upsert.final:
            finished.add(window)


def check_rows(task: Task, given: Case, again: str) -> None:
    """Nothing is left open, and of the closed ones those whose retention is not over."""
    rows = task.store.begin()
    progress = layout.progress_of(rows)
    assert not list(layout.all_windows(rows, layout.OPEN)), again
    kept = {(key, window.end) for key, window, _ in layout.all_windows(rows, layout.KEPT)}
    closed = {(it.key, it.window.end) for it in task.upserts if it.final}
    horizon = progress.closed_until - given.retention
    assert kept == {(key, end) for key, end in closed if given.retention and end > horizon}, again


class Sessions:
    """Not shipped: a kind whose windows grow, to show that the logic needs no change for one."""

    def __init__(self, gap: int) -> None:
        self.gap = gap

    @property
    def reach_ms(self) -> int:
        return self.gap

    def place(self, time: int, near: Any) -> list[WindowAssignment]:
        touching = [window for window in near(time, time + self.gap) if window.start <= time + self.gap]
        start = min([time, *(window.start for window in touching)])
        end = max([time + self.gap, *(window.end for window in touching)])
        return [WindowAssignment(Window(start, end), tuple(touching))]


def sessions_of(times: list[int], gap: int) -> list[list[int]]:
    """The model of sessions: sorted times, cut where two are more than a gap apart."""
    found: list[list[int]] = []
    for time in sorted(times):
        if found and time - found[-1][-1] <= gap:
            found[-1].append(time)
        else:
            found.append([time])
    return found


def test_a_kind_whose_windows_grow_needs_nothing_more() -> None:
    for seed in SEEDS[:500]:
        random_ = random.Random(seed)
        gap = random_.choice([1, 5, 50])
        records = [(random_.choice("ab"), random_.randint(0, 600), 0) for _ in range(random_.randint(1, 40))]
        book = WindowLogic(Sessions(gap), grace_ms=1000, merge=lambda a, b: [*a, *b])
        task = Task(book, random_)
        task.run([(key, time, time) for key, time, _ in records])
        task.silence()
        finals = sorted((it.key.decode(), *it.window, sorted(it.state)) for it in task.upserts if it.final)
        expected = [
            (key, times[0], times[-1] + gap, times)
            for key in {key for key, _, _ in records}
            for times in sessions_of([time for name, time, _ in records if name == key], gap)
        ]
        assert finals == sorted(expected), seed
        alive = {}
        for it in task.upserts:
            alive[it.key, it.window.start] = it.state
        assert {where for where, state in alive.items() if state is not None} == {
            (key.encode(), start) for key, start, _, _ in finals
        }, seed
