"""How a table is shown: its rows' keys as text, and from such a text back to the row. No I/O.

A key in a path is bytes. A table's stored key is mostly their JSON (`alice` is stored as `"alice"`); a path may also
hold the stored bytes themselves, and says so with `?stored=1` where it matters, so that every row has a path.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import msgspec

from streamapp.clock import format_rfc3339
from streamapp.delivery.inbox import Mark, mark_key
from streamapp.state import Committed

if TYPE_CHECKING:
    from streamapp.driver.tables.inbox import InboxTable
    from streamapp.driver.tables.table import Table

#: Most marks that one event id has: agents of one topic.
_MARKS_MAX = 100


class ShownRow(NamedTuple):
    """A row for people and programs."""

    #: As text; bytes that are no UTF-8 are shown with `\\x..`.
    key: str
    #: The key percent-encoded: it leads back to the row, as the stored key where `is_stored`.
    path: str
    is_stored: bool
    value: Any
    #: Bytes of key and value as they are stored.
    size: int


class Missing(Exception):
    """The question does not say enough; `str()` says what it lacks."""


class TableView:
    """A plain table. Subclasses show tables whose rows are kept otherwise."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def event_key(self, key: bytes) -> bytes | None:
        """The key of the events that wrote the row `key`; None: nobody can say, any owner may have it.

        Raises `Missing` when the question must say it.
        """
        return key

    def find(self, rows: Committed, key: bytes, event_key: bytes | None, *, is_stored: bool = False) -> Any:
        """The value of a row, or None. `is_stored`: `key` is the stored key and nothing else."""
        for stored in (key,) if is_stored else self._stored(key):
            raw = rows.get(stored)
            if raw is not None:
                return self.value_of(raw)
        return None

    def page(self, rows: Committed, after: bytes | None, limit: int) -> list[tuple[bytes, ShownRow]]:
        """At most `limit` rows behind the stored key `after`, each with its stored key."""
        start = b"" if after is None else after + b"\0"
        return [(key, self._row(key, raw)) for key, raw in rows.items(start=start, limit=limit)]

    def value_of(self, raw: bytes) -> Any:
        """A stored value as JSON has it."""
        return _parsed(raw)

    def _stored(self, key: bytes) -> list[bytes]:
        try:
            return [self._table.key_bytes(key.decode()), key]
        except UnicodeDecodeError:
            return [key]

    def _row(self, stored: bytes, raw: bytes) -> ShownRow:
        key = self._path_bytes(stored)
        is_stored = self._stored(key)[0] != stored
        return ShownRow(self._shown(stored), quote(key, safe=""), is_stored, self.value_of(raw), len(stored) + len(raw))

    def _shown(self, stored: bytes) -> str:
        text = _text(stored)
        return shown(stored) if text is None else text

    def _path_bytes(self, stored: bytes) -> bytes:
        text = _text(stored)
        if text is None:
            return stored
        key = text.encode()
        # Browsers take `..` for the folder above. A text that would be stored as other bytes must not lead astray.
        return key if key not in (b"", b".", b"..") and self._stored(key)[0] == stored else stored


class InboxView(TableView):
    """The marks of the inbox. A path is a mark's key, `["agent", "key", "id"]`, or an event id with `?key=`."""

    def __init__(self, table: InboxTable) -> None:
        super().__init__(table)
        self._inbox = table

    def event_key(self, key: bytes) -> bytes | None:
        mark = _mark_of(key)
        if mark is None:
            raise Missing("an event id is looked up under its record's key: add ?key=")
        record_key = mark[1]
        if isinstance(record_key, list):
            try:
                return bytes.fromhex(record_key[0])
            except (ValueError, TypeError, IndexError):
                return None
        return None if record_key is None else str(record_key).encode()

    def find(self, rows: Committed, key: bytes, event_key: bytes | None, *, is_stored: bool = False) -> Any:
        if is_stored or _mark_of(key) is not None:
            raw = rows.get(key)
            return None if raw is None else self.value_of(raw)
        return self._marks_of_event(rows, key, event_key) or None

    def value_of(self, raw: bytes) -> Any:
        mark = Mark.unpack(raw)
        appended_at = format_rfc3339(mark.appended_s)
        return {
            "status": mark.status.name,
            "attempts": mark.attempts,
            "appended_at": appended_at,
            "content": mark.content.hex(),
        }

    def _marks_of_event(self, rows: Committed, event_id: bytes, event_key: bytes | None) -> list[Any]:
        """What each agent's inbox knows of an event."""
        found = []
        for agent in sorted(agent.name for agent in self._inbox.agents):
            prefix = mark_key(agent, event_key, (event_id.decode("utf-8", "replace"),)).removesuffix(b"]")
            for key, raw in rows.items(prefix=prefix, limit=_MARKS_MAX):
                if key[len(prefix) :][:1] in (b"]", b","):  # the whole id, or the first field of it
                    found.append({"key": key.decode(), "agent": agent, **self.value_of(raw)})
        return found

    def _path_bytes(self, stored: bytes) -> bytes:
        return stored

    def _stored(self, key: bytes) -> list[bytes]:
        return [key]

    def _shown(self, stored: bytes) -> str:
        return shown(stored)


def shown(key: bytes) -> str:
    """Bytes as text that can be read and is never taken for another key's."""
    return key.decode("utf-8", "backslashreplace")


def _text(stored: bytes) -> str | None:
    """The text in a stored key that is JSON text."""
    try:
        return msgspec.json.decode(stored, type=str)
    except (msgspec.DecodeError, UnicodeError):
        return None


def _mark_of(key: bytes) -> list[Any] | None:
    try:
        mark = msgspec.json.decode(key, type=list)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return mark if len(mark) > 2 else None


def _parsed(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {"base64": b64encode(raw).decode()}
