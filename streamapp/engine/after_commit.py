"""Runs what events wanted done after their commit (decision 16): in order within a task, several tasks at once.

    committed     ──▶ line of the task ──▶ handler, outside of the gate ──▶ removal staged, with what the handler sent
    handler fails ──▶ again after a pause, as often as it takes; the task's later intents wait
    aborted       ──▶ intents whose removal was in that transaction run again
    partitions go ──▶ runs are cancelled; what is left in the table is the next owner's

A handler may take its time: no commit waits for it. Too many intents waiting hold up their task's events instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from streamapp.clock import Clock
from streamapp.delivery.after_commit import TABLE, Intent, ordered, pause_s
from streamapp.engine.gate import Gate
from streamapp.engine.ownership import Ownership
from streamapp.engine.participant import InFlightTransaction, Order, Participant
from streamapp.engine.task import Task
from streamapp.engine.unit import Unit, clear_current, set_current
from streamapp.errors import brief

logger = logging.getLogger(__name__)

#: Handlers that may run at once in a worker.
HANDLERS_MAX = 8
#: Intents of a task that may wait before its events do.
WAITING_MAX = 10_000

#: Runs one intent: its name, payload and id.
Run = Callable[[Intent], Awaitable[Any]]


class AfterCommit(Participant):
    """Runs the after-commit handlers of one worker.

    `finished` merges a unit, `count` counts by name, `crash` ends the worker.
    """

    order = Order.AFTER_COMMIT

    def __init__(
        self,
        run: Run,
        gate: Gate,
        clock: Clock,
        *,
        finished: Callable[[Unit], None],
        count: Callable[[str], None],
        crash: Callable[[BaseException], None],
    ) -> None:
        self.run = run
        self.gate = gate
        self.clock = clock
        self.finished = finished
        self.count = count
        self.slots = asyncio.Semaphore(HANDLERS_MAX)
        self._crash = crash
        self._lines: list[TaskIntents] = []
        self._working: set[asyncio.Task[None]] = set()

    def begin(self, tasks: Iterable[Task]) -> None:
        """These tasks are ours: run what their tables still hold."""
        self.end()
        self._lines = [TaskIntents(self, task) for task in tasks if TABLE in task.stores]
        for line in self._lines:
            line.add(ordered(line.store.committed.items()))

    @property
    def idle(self) -> bool:
        """Whether nothing is owed."""
        return not any(line.waiting or line.removing or line.removed for line in self._lines)

    def seal(self, transaction: InFlightTransaction) -> None:
        """What was wanted and done so far goes with the transaction that is sealed; the stores still show it."""
        for line in self._lines:
            line.fresh = ordered(line.store.changes()) if line.store.overlay else []
            line.removed, line.removing = line.removing, []

    def committed(self, transaction: InFlightTransaction) -> None:
        """What is in flight is committed."""
        for line in self._lines:
            line.removed = []
            fresh, line.fresh = line.fresh, []
            line.add(fresh)
            line.make_room()

    def aborted(self, owned: Ownership) -> None:
        """Everything since the last commit is gone, and the removals in it."""
        for line in self._lines:
            line.waiting.extendleft(reversed(line.removed + line.removing))
            line.removed, line.removing, line.fresh = [], [], []
            line.work()

    def revoked(self) -> None:
        self.end()

    def end(self) -> None:
        """Run nothing more: the partitions go, or the worker ends."""
        self._lines = []
        for work in self._working:
            work.cancel()

    async def close(self) -> None:
        """End, and wait until every handler has ended."""
        self.end()
        await asyncio.gather(*self._working, return_exceptions=True)

    def start(self, work: Any, name: str) -> asyncio.Task[None]:
        started = asyncio.create_task(work, name=name)
        self._working.add(started)
        started.add_done_callback(self._ended)
        return started

    def _ended(self, work: asyncio.Task[None]) -> None:
        self._working.discard(work)
        if not work.cancelled() and (exc := work.exception()) is not None:
            self._crash(exc)


class TaskIntents:
    """The intents of one task, one after the other."""

    def __init__(self, intents: AfterCommit, task: Task) -> None:
        self._intents = intents
        self._task = task
        self.store = task.stores[TABLE]
        self.waiting: deque[Intent] = deque()
        #: Run, with the removal in the open transaction, and in the one in flight.
        self.removing: list[Intent] = []
        self.removed: list[Intent] = []
        #: What the one in flight brings.
        self.fresh: list[Intent] = []
        self._work: asyncio.Task[None] | None = None

    def add(self, fresh: list[Intent]) -> None:
        """These are committed: run them, after those before them."""
        if fresh:
            self.waiting.extend(fresh)
            self._task.intent_number = max(self._task.intent_number, fresh[-1].number + 1)
            if len(self.waiting) >= WAITING_MAX and not self._task.held:
                self._task.held = True
                logger.warning(
                    "%d after-commit handlers of task %d are waiting; its events wait until there are fewer",
                    len(self.waiting),
                    self._task.number,
                )
            self.work()

    def make_room(self) -> None:
        """Let the task's events go on when enough intents are done."""
        if self._task.held and len(self.waiting) < WAITING_MAX // 2:
            self._task.held = False

    def work(self) -> None:
        """Run what waits, unless that is being done."""
        if self.waiting and (self._work is None or self._work.done()):
            self._work = self._intents.start(self._run_all(), f"streamapp-after-commit-{self._task.number}")

    async def _run_all(self) -> None:
        while self.waiting:
            intent = self.waiting[0]
            unit = await self._run(intent)
            await self._intents.gate.entered()
            try:  # nothing is awaited in here: it is one step of the open transaction
                rows = unit.stores[self.store] = self.store.begin()
                rows.delete(intent.id.encode())
                unit.live = False
                self.waiting.remove(intent)
                self.removing.append(intent)
                self._intents.finished(unit)
            finally:
                self._intents.gate.leave()

    async def _run(self, intent: Intent) -> Unit:
        """Run the handler until it succeeds; the unit with what it sent."""
        intents, failures = self._intents, 0
        while True:
            unit, worker = Unit(None, []), asyncio.current_task()
            async with intents.slots:
                set_current(unit)
                try:
                    await intents.run(intent)
                except Exception as exc:  # noqa: BLE001 - whatever it is, the intent is still owed
                    failures += 1
                    failed = exc
                else:
                    intents.count("after_commit_runs")
                    return unit
                finally:
                    clear_current(worker)
            unit.drop()
            intents.count("after_commit_failures")
            pause = pause_s(failures)
            logger.warning(
                "after_commit %s of %s failed %d times, again in %g s: %s",
                intent.handler,
                intent.id,
                failures,
                pause,
                brief(failed),
            )
            await intents.clock.sleep(pause)
