"""What a test hands in, as a record has it: event time, key, bytes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from streamapp import finite
from streamapp.clock import format_rfc3339, parse_rfc3339
from streamapp.driver.app import EngineApp

_TIME_FIELD = "occurred_at"


def seconds(at: str | float | datetime) -> float:
    """A time in seconds since the epoch."""
    if isinstance(at, datetime):
        return at.timestamp()
    return parse_rfc3339(at).timestamp() if isinstance(at, str) else float(at)


def record_type(app: EngineApp, topic: str) -> Any:
    """The `msgspec.Struct` of a topic's records, where the app declares one."""
    for channel in app.topics:
        if topic in channel.topics:
            return getattr(getattr(channel.schema, "codec", None), "record_type", None)
    return None


def with_time(value: Any, happened: float, declared: Any) -> Any:
    """The value with its event time, where it has none of its own or its type has the field."""
    text = format_rfc3339(happened)
    if isinstance(value, msgspec.Struct):
        return (
            msgspec.structs.replace(value, **{_TIME_FIELD: text}) if _TIME_FIELD in value.__struct_fields__ else value
        )
    if isinstance(value, dict) and (declared is None or _TIME_FIELD in declared.__struct_fields__):
        return {_TIME_FIELD: text, **value}
    return value


def key_of(value: Any, declared: Any) -> bytes | None:
    """The key by the field that the record type names as its `KEY`."""
    field = getattr(type(value), "KEY", None) or getattr(declared, "KEY", None)
    if field is None:
        return None
    key = value.get(field) if isinstance(value, dict) else getattr(value, field, None)
    return key.encode() if isinstance(key, str) else None


def as_bytes(value: Any) -> bytes | None:
    """The value of the record: None is a null value. `RecordError` for NaN and infinities; bytes may have them."""
    return value if value is None or isinstance(value, bytes) else finite.encode(value)
