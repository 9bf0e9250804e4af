"""What a partition needs of the place where its committed values are kept: rocksdict, or memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from streamapp.state.overlay import Change


class Storage(Protocol):
    """Committed values and the checkpoint that belongs to them. One thread uses it.

    Errors: `StateCorrupted` when what is stored cannot be trusted, `StoreError` when the disk refuses,
    `UnitEnded` after `close()`.
    """

    @property
    def checkpoint(self) -> int | None:
        """The offset of the next changelog record to read; None when nothing was ever committed or restored."""

    @property
    def get(self) -> Callable[[bytes], bytes | None]:
        """The look-up, to be held and called: the hot path."""

    def get_all(self, keys: list[bytes]) -> list[bytes | None]:
        """As `get` of each; many at once cost a quarter less."""

    @property
    def segments(self) -> list[int]:
        """The ends of the live segments, newest first; `[FOREVER]` without retention."""

    def layers(self, start: bytes, stop: bytes | None) -> list[Iterator[tuple[bytes, bytes]]]:
        """The rows of `[start, stop)` in key order, one iterator a segment, newest first; they hold no resource."""

    def write(self, changes: Iterable[Change], checkpoint: int | None) -> None:
        """One atomic batch: all of it or nothing. Values go to the newest segment; None keeps the checkpoint."""

    def add_segment(self, end_s: int) -> None:
        """A new newest segment, empty."""

    def drop_segment(self, end_s: int) -> None:
        """Forget the oldest segment with everything in it, in a time that does not depend on its size."""

    def approximate_count(self) -> int:
        """About how many keys are stored, without reading them."""

    def close(self) -> None:
        """Release every file and lock; a second call does nothing."""
