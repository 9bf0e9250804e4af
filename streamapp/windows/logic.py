"""The windows of one task: what a record changes, what it closes, and what it is too late for.

    see(time)     the watermark moves; windows that ended a grace before it are closed, each with one final
    add(...)      see, then fold the record into its windows that are not closed
    close()       more finals, where a unit stopped at its bound
    silence()     nothing came for long: close every window that has begun

Nothing is remembered here: all of it is in the rows of the unit, which are committed or forgotten with everything else
the unit does. Closing n windows reads n rows and one more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from streamapp import finite
from streamapp.errors import RecordError
from streamapp.windows.aggregates import FULL
from streamapp.windows.progress import NEVER, Progress
from streamapp.windows.rows import KEPT, OPEN, PROGRESS, Rows, WindowRow, end_and_key, progress_of, row_key, windows_of
from streamapp.windows.windowers import Window, Windower

#: Most windows that one unit closes: its finals must fit into one transaction. The next unit goes on.
CLOSINGS_MAX = 2000
#: Largest state of a window: its final must fit into its topic, and its row into the changelog.
STATE_BYTES_MAX = 768 << 10

_decode = msgspec.json.Decoder().decode

#: The state of a window after one record more; None: the record is its first.
Fold = Callable[[Any], Any]


class WindowUpsert(NamedTuple):
    """A window as it is now, for whoever follows it. `state` None: there is no such window any more."""

    key: bytes
    window: Window
    revision: int
    final: bool
    state: Any


class Added(NamedTuple):
    """What came of a record: upserts in order, and the windows it was too late for."""

    upserts: list[WindowUpsert]
    expired: list[Window]
    progress: Progress


class WindowLogic:
    """Decides what a record changes in windows, and which windows are closed.

    `every_ms`: an open window sends an upsert when the watermark has moved so far since its last one (0: for every
    record; None: only the final). `tombstones`: an upsert without state when a kept window's retention is over.
    `dump`, `load`: states to bytes and back. `fits`: raises `RecordError` for a state (of so many bytes) whose final
    could not be sent. `merge`: of two states, for kinds whose windows grow together.
    """

    def __init__(
        self,
        kind: Windower,
        *,
        grace_ms: int = 0,
        retention_ms: int = 0,
        every_ms: int | None = 0,
        tombstones: bool = False,
        dump: Callable[[Any], bytes] = finite.encode,
        load: Callable[[bytes], Any] = _decode,
        merge: Callable[[Any, Any], Any] | None = None,
        closings_max: int = CLOSINGS_MAX,
        fits: Callable[[bytes, Window, Any, int], None] | None = None,
    ) -> None:
        self.kind = kind
        self.grace_ms = grace_ms
        self.retention_ms = retention_ms
        self.every_ms = every_ms
        self.tombstones = tombstones
        self.dump = dump
        self.load = load
        self._merge = merge
        self._closings_max = closings_max
        self._fits = fits

    def see(self, rows: Rows, time: int) -> list[WindowUpsert]:
        """A record of this time has come; the finals of what it closes."""
        before = progress_of(rows)
        return self._advance(rows, before, before.seen(time, self.grace_ms))

    def add(self, rows: Rows, key: bytes, time: int, fold: Fold) -> Added:
        """Fold a record into the windows of `key` it is in, except those that are closed."""
        before = progress_of(rows)
        progress = before.seen(time, self.grace_ms)
        sent: list[WindowUpsert] = []
        if progress is not before:
            progress, sent = self._close(rows, progress)
        expired = []
        for window, absorbs in self.kind.place(time, lambda start, end: self._near(rows, key, start, end)):
            if window.end <= progress.closed_until:
                expired.append(window)
                continue
            sent += self._count(rows, key, window, absorbs, progress.watermark, fold)
            if window.end < progress.next_end:
                progress = progress._replace(next_end=window.end)
        if progress != before:
            rows.set(PROGRESS, progress.pack())
        return Added(sent, expired, progress)

    def close(self, rows: Rows) -> list[WindowUpsert]:
        """Go on where a unit stopped at its bound; nothing when `is_due` says so."""
        progress = progress_of(rows)
        return self._advance(rows, progress, progress)

    def is_due(self, rows: Rows) -> bool:
        """Whether finals are to be sent, or kept windows to be forgotten, that one unit left."""
        progress = progress_of(rows)
        return progress.is_due or progress.next_kept <= progress.closed_until - self.retention_ms

    def silence(self, rows: Rows) -> list[WindowUpsert]:
        """Nothing came for long: close every window that has begun. What comes for them afterwards is expired."""
        progress = progress_of(rows)
        if progress.next_end == NEVER:
            return []
        return self._advance(rows, progress, progress.silent(self.kind.reach_ms))

    # --- closing

    def _advance(self, rows: Rows, before: Progress, progress: Progress) -> list[WindowUpsert]:
        progress, upserts = self._close(rows, progress)
        if progress != before:
            rows.set(PROGRESS, progress.pack())
        return upserts

    def _close(self, rows: Rows, progress: Progress) -> tuple[Progress, list[WindowUpsert]]:
        upserts: list[WindowUpsert] = []
        if progress.is_due:
            progress = self._send_finals(rows, progress, upserts)
        if progress.next_kept <= progress.closed_until - self.retention_ms:
            progress = self._let_go(rows, progress, upserts)
        return progress, upserts

    def _send_finals(self, rows: Rows, progress: Progress, upserts: list[WindowUpsert]) -> Progress:
        next_kept, end = progress.next_kept, NEVER
        for raw, value in rows.items(prefix=OPEN, start=row_key(OPEN, progress.next_end, b"")):
            end, key = end_and_key(raw)
            if end > progress.closed_until or len(upserts) >= self._closings_max:
                break
            row = WindowRow.unpack(value)
            row = row._replace(revision=row.revision + 1, upserted_at=progress.watermark)
            rows.delete(raw)
            if self.retention_ms:
                rows.set(row_key(KEPT, end, key), row.pack())
                next_kept = min(next_kept, end)
            upserts.append(WindowUpsert(key, Window(row.start, end), row.revision, True, self.load(row.state)))
            end = NEVER
        return progress._replace(next_end=end, next_kept=next_kept)

    def _let_go(self, rows: Rows, progress: Progress, upserts: list[WindowUpsert]) -> Progress:
        """Forget the closed windows whose retention is over."""
        end = NEVER
        kept = rows.items(prefix=KEPT, start=row_key(KEPT, progress.next_kept, b""))
        for gone, (raw, value) in enumerate(kept):
            end, key = end_and_key(raw)
            if end > progress.closed_until - self.retention_ms or gone >= self._closings_max:
                break
            rows.delete(raw)
            if self.tombstones:
                row = WindowRow.unpack(value)
                upserts.append(WindowUpsert(key, Window(row.start, end), row.revision, True, None))
            end = NEVER
        return progress._replace(next_kept=end)

    # --- counting

    def _count(
        self, rows: Rows, key: bytes, window: Window, absorbs: Sequence[Window], watermark: int, fold: Fold
    ) -> list[WindowUpsert]:
        """The record in one window; a tombstone for each window that became part of it under another start."""
        upserts: list[WindowUpsert] = []
        at = row_key(OPEN, window.end, key)
        if absorbs:
            revision, upserted_at, state = self._absorbed(rows, key, window, absorbs, upserts)
        else:
            raw = rows.get(at)
            _, revision, upserted_at, dumped = (0, 0, 0, b"") if raw is None else WindowRow.unpack(raw)
            state = None if raw is None else self.load(dumped)
        state = fold(state)
        every = self.every_ms
        if every is not None and (not revision or watermark - upserted_at >= every):
            revision, upserted_at = revision + 1, watermark
            upserts.append(WindowUpsert(key, window, revision, False, state))
        dumped = self.dump(state)
        if len(dumped) > STATE_BYTES_MAX:
            raise RecordError(
                f"its window would take {len(dumped):,} bytes; {STATE_BYTES_MAX:,} are allowed", kind=FULL
            )
        if self._fits is not None:
            self._fits(key, window, state, len(dumped))
        rows.set(at, WindowRow(window.start, revision, upserted_at, dumped).pack())
        return upserts

    def _absorbed(
        self, rows: Rows, key: bytes, window: Window, absorbs: Sequence[Window], upserts: list[WindowUpsert]
    ) -> tuple[int, int, Any]:
        """Revision, watermark at the last upsert and state of what grows together into `window`."""
        revision = upserted_at = 0
        state = None
        for before in absorbs:
            at = row_key(OPEN, before.end, key)
            row = WindowRow.unpack(rows.get(at) or b"")
            state = self.load(row.state) if state is None else self._merged(state, self.load(row.state))
            if before.start == window.start:
                revision, upserted_at = row.revision, row.upserted_at
            elif row.revision:
                upserts.append(WindowUpsert(key, before, row.revision, False, None))
            if before.end != window.end:
                rows.delete(at)
        return revision, upserted_at, state

    def _merged(self, state: Any, other: Any) -> Any:
        assert self._merge is not None, "a kind whose windows grow together needs merge="
        return self._merge(state, other)

    def _near(self, rows: Rows, key: bytes, start: int, end: int) -> list[Window]:
        found = windows_of(rows, OPEN, key, start)
        return [window for window, _ in found if window.start <= end]
