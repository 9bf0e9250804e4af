"""The effects of finished units, merged into the open transaction."""

from __future__ import annotations

from collections.abc import Callable

from streamapp.engine.commit_schedule import CommitSchedule
from streamapp.engine.gate import Gate
from streamapp.engine.unit import Unit
from streamapp.eos.record_accumulator import RecordAccumulator


class OpenTransaction:
    """Adds units to what the next commit carries: their records to its batches, their rows to the overlays.

    `follow(unit, is_due)` hears of the first unit of a transaction, of one by which the commit is due, and of each one
    while events run one at a time: of all others nothing follows.
    """

    __slots__ = ("_filling", "_follow", "_gate", "_schedule")

    def __init__(
        self, filling: RecordAccumulator, schedule: CommitSchedule, gate: Gate, follow: Callable[[Unit, bool], None]
    ) -> None:
        self._filling = filling
        self._schedule = schedule
        self._gate = gate
        self._follow = follow

    def merge(self, unit: Unit) -> None:
        """Merge a unit that has finished."""
        filling = self._filling
        filling.add(unit.sends)
        for store in unit.stores.values():
            store.merge()
        is_due = self._schedule.is_due(filling.byte_count)
        if is_due or self._schedule.finished == 1 or self._gate.single:
            self._follow(unit, is_due)
