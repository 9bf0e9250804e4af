"""A fetched record as the key and value that Faust's own schema makes of it."""

from __future__ import annotations

from typing import Any

from faust.exceptions import DecodeError

from streamapp.driver.streams.event import message_of
from streamapp.engine.reader import Reader
from streamapp.engine.record import Record
from streamapp.errors import RecordError


class FaustReader(Reader):
    """Reads what a schema of Faust's describes."""

    __slots__ = ("_app", "_schema")

    def __init__(self, app: Any, schema: Any) -> None:
        self._app = app
        self._schema = schema

    def read(self, record: Record) -> tuple[Any, Any]:
        """(key, value) of a record, as Faust would hand them to its agents. Raises `RecordError`."""
        schema, message = self._schema, message_of(record)
        try:
            key = schema.loads_key(self._app, message)
            if record.value is None and schema.allow_empty:
                return key, None
            return key, schema.loads_value(self._app, message)
        except (DecodeError, ValueError, TypeError, LookupError) as exc:
            raise RecordError(f"{type(exc).__name__}: {exc}") from exc
