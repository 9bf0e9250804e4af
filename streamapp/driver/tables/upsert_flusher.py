"""Sends rows that a rate limit held back, once their time has come, also if no further event arrives.

Held rows are scanned during the commit barrier, because no task runs then. If no commit is due, the scan asks for one.
An abort undoes a scan like everything else: the marks still say what is to be sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from streamapp.clock import Clock
from streamapp.driver.tables.row_upserts import RowUpserts
from streamapp.engine.engine import Engine
from streamapp.engine.ownership import Ownership
from streamapp.engine.participant import InFlightTransaction, Order, Participant
from streamapp.engine.task import Task
from streamapp.engine.unit import Unit

_TICK_S = 0.05
#: Looks in the interval of a table, so that a row waits a quarter longer at most.
_LOOKS = 4


class Look(NamedTuple):
    """The next look at a table's marks: when (monotonic), and from which mark on."""

    at: float
    start: bytes = b""


class UpsertFlusher(Participant):
    """The tables of one worker whose upserts have a rate limit."""

    order = Order.UPSERTS

    def __init__(self, engine: Engine, tables: Sequence[RowUpserts], clock: Clock) -> None:
        self._engine = engine
        self._tables = tables
        self._clock = clock
        self._looks: WeakKeyDictionary[Task, dict[str, Look]] = WeakKeyDictionary()

    async def run(self) -> None:
        """Ask for a commit whenever a look is due, until cancelled."""
        while True:
            await self._clock.sleep(_TICK_S)
            if self._due():
                self._engine.commit_due()

    def is_due(self, owned: Ownership) -> bool:
        return bool(self._due()) and not self._engine.gate.single

    def seal(self, transaction: InFlightTransaction) -> None:
        """Add what is due to the transaction. Nothing of any task runs."""
        if self._engine.gate.single:
            return
        for task, upserts, look in self._due():
            unit = Unit(task, [])
            looked = upserts.send_due(unit, look.start)
            self._looks[task][upserts.table.name] = (
                self._next(upserts) if looked.go_on_at is None else Look(look.at, looked.go_on_at)
            )
            if looked.has_effects:
                unit.live = False
                self._engine.finished(unit)
            else:
                unit.drop()

    def _due(self) -> list[tuple[Task, RowUpserts, Look]]:
        """Tables of tasks with marks to be looked at now."""
        now, due = self._clock.monotonic(), []
        for task in self._engine.tasks:
            looks = self._looks.setdefault(task, {})
            for upserts in self._tables:
                store = task.stores.get(upserts.marks.name)
                if store is None:
                    continue
                look = looks.setdefault(upserts.table.name, Look(now))
                if look.at > now:
                    continue
                if next(iter(store.begin().items(start=look.start)), None) is None:
                    looks[upserts.table.name] = self._next(upserts)
                else:
                    due.append((task, upserts, look))
        return due

    def _next(self, upserts: RowUpserts) -> Look:
        return Look(self._clock.monotonic() + upserts.every_ms / 1000 / _LOOKS)
