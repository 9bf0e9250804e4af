"""When a record happened: a field of its own, read as milliseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from streamapp.clock import instant, parse_rfc3339
from streamapp.codec import AHEAD_MAX_S
from streamapp.errors import RecordError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_AHEAD_MAX_MS = int(AHEAD_MAX_S * 1000)


class EventTime:
    """Reads the event time of structs, Faust records and parsed JSON objects.

    `field` holds RFC 3339 text in UTC, or an aware `datetime`. Part of a millisecond is dropped.
    """

    def __init__(self, field: str) -> None:
        self.field = field

    def find(self, value: Any) -> Any:
        """The field as it is in `value`; None where the record has none, which then is no event of a window."""
        if isinstance(value, dict):
            return value.get(self.field)
        return getattr(value, self.field, None)

    def of(self, value: Any) -> int:
        """The event time. Raises `RecordError` for a record without one, and for one before 1970."""
        found = self.find(value)
        if found is None:
            raise RecordError(f"the record has no event time: {self.field} is missing", kind="InvalidRecord")
        try:
            time = milliseconds(found)
        except (TypeError, ValueError) as exc:
            raise RecordError(f"{self.field}: {exc}", kind="InvalidRecord") from None
        if time < 0:
            raise RecordError(f"{self.field} is {found}: windows begin in 1970", kind="BeforeEpoch")
        return time

    def check_ahead(self, time: int, appended_ms: int) -> None:
        """Raise `RecordError` for a time over an hour after the append time: it would close everybody's windows."""
        if time - appended_ms > _AHEAD_MAX_MS:
            raise RecordError(
                f"{self.field} is {(time - appended_ms) / 1000:,.0f} s ahead of the append time; "
                f"{AHEAD_MAX_S:,.0f} s are allowed",
                kind="TooFarAhead",
            )


def milliseconds(found: Any) -> int:
    """An instant in whole milliseconds since the epoch; `ValueError` or `TypeError` for what is none."""
    return _of_text(found) if isinstance(found, str) else (instant(found) - _EPOCH) // _MILLISECOND


@lru_cache(maxsize=1024)
def _of_text(text: str) -> int:
    return (parse_rfc3339(text) - _EPOCH) // _MILLISECOND
