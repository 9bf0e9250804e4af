"""The effects of finished units, merged into the open transaction."""

from __future__ import annotations

from streamapp.driver.pace import Pace
from streamapp.driver.unit import Unit
from streamapp.eos.filling import Filling


class Merging:
    """Adds units to what the next commit carries: their records to its batches, their rows to the overlays."""

    __slots__ = ("_filling", "_pace")

    def __init__(self, filling: Filling, pace: Pace) -> None:
        self._filling = filling
        self._pace = pace

    def merge(self, unit: Unit) -> bool:
        """Merge a unit that has finished; whether the commit is due by it."""
        filling = self._filling
        filling.add(unit.sends)
        for store in unit.stores.values():
            store.merge()
        return self._pace.is_due(filling.byte_count)
