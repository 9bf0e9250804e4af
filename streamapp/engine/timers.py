"""Runs of timers and crontabs: units that belong to no task and only send."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from streamapp.engine.gate import Gate
from streamapp.engine.ownership import Ownership
from streamapp.engine.participant import InFlightTransaction, Order, Participant
from streamapp.engine.unit import Unit


class Timers(Participant):
    """The runs under way, and those whose sends are in the open transaction. `finished` merges a unit's effects."""

    order = Order.TIMERS

    def __init__(self, gate: Gate, finished: Callable[[Unit], None]) -> None:
        self._gate = gate
        self._finished = finished
        self._runs = 0
        self._runs_ended = asyncio.Event()
        self._runs_ended.set()
        self._leaving = False
        #: Runs whose sends are in the open transaction, in the one in flight, and of an aborted one, which go again.
        self._open: list[Unit] = []
        self._sealed: list[Unit] = []
        self._again: list[Unit] = []

    def begin(self) -> bool:
        """A run begins; False when the worker is leaving, and it should not."""
        if self._leaving:
            return False
        self._runs += 1
        self._runs_ended.clear()
        return True

    async def finish(self, unit: Unit) -> None:
        """A run has come to its end: what it sent goes with one commit, all of it.

        A run only sends, so it may take its time: it waits for the gate when it ends and not when it begins, and a
        slow one holds up no commit. After an abort it need not run again: its sends go with the next transaction.
        """
        await self._gate.entered()
        unit.live = False
        if unit.sends:
            self._open.append(unit)
            self._finished(unit)
        self._gate.leave()

    def end(self) -> None:
        """A run is over, whatever came of it."""
        self._runs -= 1
        if not self._runs:
            self._runs_ended.set()

    async def end_all(self, timeout_s: float) -> None:
        """Begin no further run, and let those under way finish; one that takes longer is given up, as by a crash."""
        self._leaving = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._runs_ended.wait()

    def seal(self, transaction: InFlightTransaction) -> None:
        """What was sent so far goes with the transaction that is sealed."""
        self._sealed, self._open = self._open, []

    def committed(self, transaction: InFlightTransaction) -> None:
        """What is in flight is committed."""
        self._sealed = []

    def give_up(self) -> None:
        """The broker refused what is in flight, and would again."""
        self._sealed = []

    def aborted(self, owned: Ownership) -> None:
        """Nothing of what was sent since the last commit is: it goes with the next transaction."""
        self._again = self._sealed + self._open + self._again
        self._sealed, self._open = [], []

    def send_again(self) -> None:
        """A transaction begins: the sends of one that was aborted go with it; one run's while units run alone."""
        while self._again and not (self._gate.single and self._open):
            unit = self._again.pop(0)
            self._open.append(unit)
            self._finished(unit)
