"""One unit's view of a partition: what it wrote, over what finished units wrote, over what is committed.

Writes are staged in a dictionary of the unit's own and moved into the overlay when it is finished: 0.7 us for a
look-up that misses, a write and the merge, beside RocksDB's own 0.4 us. The other way, writing into the overlay at
once with an undo list, took 0.6 us; but two units of one task (`concurrency` > 1) would read in it what the other
may still take back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from streamapp.errors import RecordError
from streamapp.state.keys import key_range
from streamapp.state.overlay import MISSING, Change, KeyOrder, Overlay, UnitEnded, in_range, merged

_MERGED = "this unit was merged: begin another one"
_DROPPED = "this unit was dropped: begin another one"


class Layers(Protocol):
    """The partition of a table, as a unit sees it: what lies below the unit's own writes."""

    name: str
    overlay: Overlay
    bytes_max: int

    def layers(self, start: bytes, stop: bytes | None) -> list[Iterator[Change]]:
        """What is below the overlay, newest first."""

    def ordered(self, overlay: Overlay) -> KeyOrder:
        """The order of the overlay's keys."""


class StoreTransaction:
    """The table changes of one event, all or nothing: `merge()` keeps them for the commit, `drop()` forgets them.

    Every use after either raises `UnitEnded`, so an agent of an older attempt cannot write into a newer one.
    """

    __slots__ = ("_bytes_max", "_ended", "_overlay", "_partition", "_read", "_staged")

    def __init__(self, partition: Layers, overlay: Overlay, read: Callable[[bytes], bytes | None]) -> None:
        self._partition = partition
        self._overlay = overlay
        self._read = read
        self._bytes_max = partition.bytes_max
        self._staged: Overlay = {}
        #: Why it is over; None while it is open.
        self._ended: str | None = None

    def get(self, key: bytes) -> bytes | None:
        """The value as this unit sees it. Raises `StateCorrupted` or `StoreError` when the disk has none to give."""
        if self._ended is not None:
            raise UnitEnded(self._ended)
        value = self._staged.get(key, MISSING)
        if value is MISSING:
            value = self._overlay.get(key, MISSING)
        if value is MISSING:
            return self._read(key)
        return value  # type: ignore[return-value]

    def get_over(self, key: bytes, stored: bytes | None) -> bytes | None:
        """As `get`, where the caller has read before that storage holds `stored`, and it has not changed since."""
        if self._ended is not None:
            raise UnitEnded(self._ended)
        value = self._staged.get(key, MISSING)
        if value is MISSING:
            value = self._overlay.get(key, stored)
        return value  # type: ignore[return-value]

    def contains(self, key: bytes) -> bool:
        return self.get(key) is not None

    def set(self, key: bytes, value: bytes) -> None:
        """Write a row. `RecordError` for one that its changelog would not take."""
        if self._ended is not None:
            raise UnitEnded(self._ended)
        if len(key) + len(value) > self._bytes_max:
            raise self._too_large(key, value)
        self._staged[key] = value

    def delete(self, key: bytes) -> None:
        """Remove `key`; a key that is not there is removed all the same, with a tombstone in the changelog."""
        if self._ended is not None:
            raise UnitEnded(self._ended)
        if len(key) > self._bytes_max:
            raise self._too_large(key, b"")
        self._staged[key] = None

    def _too_large(self, key: bytes, value: bytes) -> RecordError:
        return RecordError(
            f"A row of {self._partition.name} would have {len(key):,} bytes of key and {len(value):,} of value; its "
            f"changelog takes {self._bytes_max:,} together. Nothing of the event was done. Keep less in a "
            "row, or raise the changelog's max.message.bytes.",
            kind="RecordTooLarge",
        )

    def items(
        self, *, prefix: bytes = b"", start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows in key order; what this unit writes during the iteration does not show in it."""
        if self._ended is not None:
            raise UnitEnded(self._ended)
        first, stop = key_range(prefix, start, end)
        return merged(
            in_range(self._staged, first, stop),
            self._partition.ordered(self._overlay).between(first, stop),
            *self._partition.layers(first, stop),
        )

    def merge(self) -> None:
        """The unit is finished: its writes are seen by the next unit and go with the next commit."""
        if self._overlay is not self._partition.overlay:
            raise UnitEnded("this unit began before a commit, an abort or a close: its writes belong to nothing now")
        if self._ended is not None:
            raise UnitEnded(self._ended)
        overlay = self._overlay
        for key, value in self._staged.items():
            overlay[key] = value
        self._ended = _MERGED

    def drop(self) -> None:
        """The unit failed: forget its writes. Dropping twice, or after a merge, changes nothing."""
        if self._ended is None:
            self._ended = _DROPPED
            self._staged = {}
