"""Closes windows between events: what a unit left when it came to its bound, and after a silence what has begun.

A closing is a unit of its own, in the open transaction, which carries an owned offset (decision 11). It is one
synchronous step while nothing of its task runs, so it interferes with no event.

A partition is silent when every record of the table's topics in it has been processed and none has come for the
table's idle time: the only thing a clock decides (decision 14). A broker that does not answer is no silence: a fetch
must have been answered after the time was up. An abort takes a closing back; the silence goes on, and it is done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from streamapp.clock import Clock
from streamapp.driver.tables.windowed import WindowedTable
from streamapp.engine.engine import Engine
from streamapp.engine.input import Input
from streamapp.engine.task import Task
from streamapp.engine.unit import Unit

_TICK_S = 0.1


class Silence(NamedTuple):
    """How long nothing has come for one table of a task: since when, behind which offsets."""

    since: float
    offsets: tuple[int, ...]
    #: The last answers when the time was up; None: it is not.
    answers: tuple[int | None, ...] | None = None


class WindowCloser:
    """Of one worker's tables with windows."""

    def __init__(self, engine: Engine, tables: Sequence[WindowedTable], clock: Clock) -> None:
        self._engine = engine
        self._tables = tables
        self._clock = clock
        self._silences: WeakKeyDictionary[Task, dict[str, Silence]] = WeakKeyDictionary()

    async def run(self) -> None:
        """Look at every task now and then, until cancelled."""
        while True:
            await self._clock.sleep(_TICK_S)
            for task in self._engine.tasks:
                for table in self._tables:
                    if table.name in task.stores:
                        await self._look_at(task, table)

    async def _look_at(self, task: Task, table: WindowedTable) -> None:
        silent = table.idle_s > 0 and self._is_silent(task, table)
        while self._is_ours(task) and (
            table.is_due(task.stores[table.name]) or (silent and self._has_open(task, table))
        ):
            await self._engine.gate.entered()
            try:  # nothing is awaited in here: it is one step of the open transaction
                if not self._is_ours(task):
                    return
                if silent and self._is_silent(task, table):
                    self._close(task, table, silent=True)
                else:
                    self._close(task, table, silent=False)
                    silent = False
            finally:
                self._engine.gate.leave()
            await asyncio.sleep(0)

    def _is_ours(self, task: Task) -> bool:
        return task in self._engine.tasks and task.is_quiet and not self._engine.over

    def _has_open(self, task: Task, table: WindowedTable) -> bool:
        return table.has_open(task.stores[table.name])

    def _close(self, task: Task, table: WindowedTable, *, silent: bool) -> None:
        unit = Unit(task, [])
        table.close_in(unit, silent=silent)
        unit.live = False
        self._engine.finished(unit)

    def _is_silent(self, task: Task, table: WindowedTable) -> bool:
        """Whether the idle time is up, and a fetch was answered since then that brought nothing."""
        inputs = [it for it in task.inputs.values() if it.partition.topic in table.topics]
        offsets = tuple(it.offset for it in inputs)
        silences = self._silences.setdefault(task, {})
        silence, now = silences.get(table.name), self._clock.monotonic()
        if silence is None or silence.offsets != offsets or not all(self._is_read(it) for it in inputs):
            silences[table.name] = Silence(now, offsets)
            return False
        if now - silence.since < table.idle_s:
            return False
        consumer = self._engine.consumer
        answers = tuple(consumer.answered(it.partition) if consumer is not None else None for it in inputs)
        if silence.answers is None:
            silences[table.name] = silence._replace(answers=answers)
            return False
        return all(new is not None and new != old for new, old in zip(answers, silence.answers, strict=True))

    def _is_read(self, it: Input) -> bool:
        consumer = self._engine.consumer
        return not it.buffered and consumer is not None and consumer.at_end(it.partition)
