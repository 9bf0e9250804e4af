"""How a windowed table is shown: a row a key and window, `<key>|<window_start>`; a key alone shows all its windows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from streamapp.clock import format_rfc3339
from streamapp.queries.table_view import ShownRow, TableView
from streamapp.state import Committed
from streamapp.windows.event_time import milliseconds
from streamapp.windows.rows import KEPT, OPEN, WindowRow, end_and_key, windows_of
from streamapp.windows.windowers import Window

if TYPE_CHECKING:
    from streamapp.driver.tables.windowed import WindowedTable

#: Most windows of one key that are shown at once.
_WINDOWS_MAX = 200
#: Rows read at once while looking for the next one.
_PORTION_ROWS = 10


class WindowView(TableView):
    """Open windows, and closed ones until their retention is over."""

    def __init__(self, windowed: WindowedTable) -> None:
        super().__init__(windowed.table)
        self._windowed = windowed

    def event_key(self, key: bytes) -> bytes | None:
        return _parted(key)[0]

    def find(self, rows: Committed, key: bytes, event_key: bytes | None, *, is_stored: bool = False) -> Any:
        """The window, or, for a key alone, its windows by their end."""
        text, start = _parted(key)
        found = []
        for stored in self._stored(text):
            for window, row, final in self._windows(rows, stored, start):
                if start is None:
                    found.append(self._value(window, row, final))
                elif window.start == start:
                    return self._value(window, row, final)
        return sorted(found, key=lambda value: value["window_end"]) or None

    def _windows(self, rows: Committed, key: bytes, start: int | None) -> Iterator[tuple[Window, WindowRow, bool]]:
        """The windows of a key; with a `start` those that end when a window that begins then can."""
        last_end = None if start is None else start + self._windowed.book.kind.reach_ms
        for kind, final in ((OPEN, False), (KEPT, True)):
            for window, row in islice(windows_of(_Read(rows), kind, key, start or 0), _WINDOWS_MAX):
                if last_end is not None and window.end > last_end:
                    break
                yield window, row, final

    def page(self, rows: Committed, after: bytes | None, limit: int) -> list[tuple[bytes, ShownRow]]:
        start = OPEN if after is None else after + b"\0"
        return [(stored, self._row(stored, raw)) for stored, raw in rows.items(start=start, limit=limit)]

    def _row(self, stored: bytes, raw: bytes) -> ShownRow:
        end, key = end_and_key(stored)
        row = WindowRow.unpack(raw)
        begins = format_rfc3339(row.start / 1000)
        path = quote(self._path_bytes(key) + b"|" + begins.encode(), safe="")
        value = self._value(Window(row.start, end), row, stored[:1] == KEPT)
        return ShownRow(f"{self._shown(key)}|{begins}", path, False, value, len(stored) + len(raw))

    def _value(self, window: Window, row: WindowRow, final: bool) -> dict[str, Any]:
        value = self._windowed.shown(window, row, final)
        return {
            "window_start": format_rfc3339(value.start / 1000),
            "window_end": format_rfc3339(value.end / 1000),
            **(value.value if self._windowed.has_aggregates else {"value": value.value}),
            "revision": value.revision,
            "final": value.final,
        }


def _parted(key: bytes) -> tuple[bytes, int | None]:
    """The table's key and the window's start, in milliseconds; without one the whole is the key."""
    before, _, after = key.rpartition(b"|")
    try:
        return before, milliseconds(after.decode("ascii"))
    except ValueError:
        return key, None


class _Read:
    """Committed rows as the windows' logic reads them, a few at a time."""

    def __init__(self, rows: Committed) -> None:
        self._rows = rows
        self.get = rows.get

    def items(self, *, prefix: bytes = b"", start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        while portion := self._rows.items(prefix=prefix, start=start, limit=_PORTION_ROWS):
            yield from portion
            start = portion[-1][0] + b"\0"

    def set(self, key: bytes, value: bytes) -> None:
        raise NotImplementedError("views change nothing")

    def delete(self, key: bytes) -> None:
        raise NotImplementedError("views change nothing")
