"""Uncommitted writes: a dictionary of key -> value, None for a delete, in the order keys were first written.

Pure: layers of writes over sorted rows, nothing of the disk.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter
from typing import NoReturn, TypeAlias

#: Key -> value; None is a tombstone, which hides the key in the layers below.
Overlay: TypeAlias = "dict[bytes, bytes | None]"

#: One key of a layer, with its value or its tombstone.
Change: TypeAlias = "tuple[bytes, bytes | None]"

#: New keys that are put in their places one by one; more are sorted.
_FEW = 64

#: Tells "not written here" from a tombstone.
MISSING = object()


class UnitEnded(RuntimeError):
    """Something was read or written through a unit that is over, or a partition that is closed: a defect."""


class Ended(dict[bytes, "bytes | None"]):
    """Stands where the writes were once a unit has ended: every use raises, at no cost to those still open."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self._why = why

    def _refuse(self, *_: object) -> NoReturn:
        raise UnitEnded(self._why)

    __contains__ = __getitem__ = __setitem__ = __iter__ = get = keys = items = update = _refuse  # type: ignore[assignment]


def in_range(overlay: Overlay, start: bytes, stop: bytes | None) -> list[Change]:
    """The changes of `[start, stop)` in key order: a copy, so writing goes on while somebody iterates."""
    if stop is None:
        return sorted(change for change in overlay.items() if change[0] >= start)
    return sorted(change for change in overlay.items() if start <= change[0] < stop)


class KeyOrder:
    """The keys of an overlay in order, kept up from one range to the next: a range costs what is in it.

    An overlay only ever gets keys until it is replaced, so those that are new since the last range are its last ones,
    and writing costs nothing.
    """

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self._keys = sorted(overlay)

    def between(self, start: bytes, stop: bytes | None) -> Iterator[Change]:
        """The changes of `[start, stop)`: the keys that are there now, each with its value when it is reached."""
        keys, fresh = self._keys, len(self.overlay) - len(self._keys)
        if fresh > _FEW:
            keys = self._keys = sorted(self.overlay)
        else:
            for key in islice(reversed(self.overlay), fresh):
                insort(keys, key)
        last = len(keys) if stop is None else bisect_left(keys, stop)
        return ((key, self.overlay[key]) for key in keys[bisect_left(keys, start) : last])


def merged(*layers: Iterable[Change]) -> Iterator[tuple[bytes, bytes]]:
    """The rows seen through sorted `layers`, uppermost first: the first layer that has a key decides it."""
    last: bytes | None = None
    for key, value in heapq.merge(*layers, key=itemgetter(0)):  # stable: of equal keys the uppermost comes first
        if key != last and value is not None:
            yield key, value
        last = key
