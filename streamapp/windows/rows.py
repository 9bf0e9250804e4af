"""The windows of a task as rows that lie in the order of their ends, so that those that are due lie in front.

    00                   progress: watermark, closed until, next end, next kept end       one row a task
    01 end(6) key        an open window                                                    one row a key and window
    02 end(6) key        a closed one, until its retention is over

A row is start, revision, watermark at its last upsert, and the state as the table encodes it. Windows of one key have
different ends, in every kind, so (end, key) names a window; the key comes last and needs no terminator.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from streamapp.windows.progress import Progress
from streamapp.windows.windowers import Window

PROGRESS = b"\x00"
OPEN = b"\x01"
KEPT = b"\x02"

_END_BYTES = 6
_KEY_AT = 1 + _END_BYTES
_HEAD = struct.Struct(">qIq")


class Rows(Protocol):
    """The rows of a task as one unit sees and changes them (`state.Unit`)."""

    def get(self, key: bytes) -> bytes | None: ...

    def set(self, key: bytes, value: bytes) -> None: ...

    def delete(self, key: bytes) -> None: ...

    def items(self, *, prefix: bytes = b"", start: bytes = b"") -> Iterable[tuple[bytes, bytes]]:
        """In key order, as they are at the call."""


class WindowRow(NamedTuple):
    """A window in the table."""

    start: int
    #: Upserts sent so far.
    revision: int
    #: The watermark at the last of them; meaningless before the first.
    upserted_at: int
    state: bytes

    def pack(self) -> bytes:
        return _HEAD.pack(self.start, self.revision, self.upserted_at) + self.state

    @classmethod
    def unpack(cls, raw: bytes) -> WindowRow:
        """The row in `raw`. `ValueError` when it is none: the table belongs to something else."""
        try:
            start, revision, upserted_at = _HEAD.unpack_from(raw)
        except struct.error as exc:
            raise ValueError(f"{raw[:40]!r} is no row of a window: {exc}") from None
        return cls(start, revision, upserted_at, raw[_HEAD.size :])


def row_key(kind: bytes, end: int, key: bytes) -> bytes:
    """Where the window of `key` that ends at `end` is, among the open or the kept ones."""
    return kind + end.to_bytes(_END_BYTES, "big") + key


def end_and_key(raw: bytes) -> tuple[int, bytes]:
    """The two parts of `row_key`."""
    return int.from_bytes(raw[1:_KEY_AT], "big"), raw[_KEY_AT:]


def progress_of(rows: Rows) -> Progress:
    """How far the task has come; the beginning where it has never seen a record."""
    raw = rows.get(PROGRESS)
    return Progress() if raw is None else Progress.unpack(raw)


def windows_of(rows: Rows, kind: bytes, key: bytes, from_end: int = 0) -> Iterator[tuple[Window, WindowRow]]:
    """The windows of one key that end at `from_end` or later, by their end.

    Costs one step for each end at which any key has a window, not for each window.
    """
    while True:
        following = next(iter(rows.items(prefix=kind, start=row_key(kind, from_end, b""))), None)
        if following is None:
            return
        end, _ = end_and_key(following[0])
        raw = rows.get(row_key(kind, end, key))
        if raw is not None:
            row = WindowRow.unpack(raw)
            yield Window(row.start, end), row
        from_end = end + 1


def all_windows(rows: Rows, kind: bytes) -> Iterator[tuple[bytes, Window, WindowRow]]:
    """Every open or kept window: key, window, row, by end and key."""
    for raw, value in rows.items(prefix=kind):
        end, key = end_and_key(raw)
        row = WindowRow.unpack(value)
        yield key, Window(row.start, end), row
