"""JSON without NaN and infinities: a value that has one is refused where it is written.

JSON has no such numbers. Python writes them all the same, as names that other readers refuse, our typed one too;
msgspec writes `null`, so that the number is gone without a word. Here both are a `RecordError`, kind `NotFinite`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any

import msgspec
from msgspec import inspect

from streamapp.errors import RecordError

_encode = msgspec.json.Encoder().encode
#: Types of which no part is a float.
_WITHOUT = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.StrType,
    inspect.BytesType,
    inspect.ByteArrayType,
    inspect.MemoryViewType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
    inspect.UUIDType,
    inspect.DecimalType,
    inspect.EnumType,
    inspect.LiteralType,
    inspect.RawType,
)
#: What the others are made of, by the attributes that say so.
_PARTS = ("type", "types", "fields", "item_type", "item_types", "key_type", "value_type")


def encoder(record_type: Any) -> Callable[[Any], bytes]:
    """Writes values of a type as JSON, and refuses NaN and infinities; msgspec's own where the type has no floats."""
    return encode if may_hold_float(record_type) else _encode


def encode(value: Any) -> bytes:
    """Any value as JSON. `RecordError` (`NotFinite`) where a number in it is NaN or infinite."""
    raw = _encode(value)
    if b"null" in raw and not is_finite(msgspec.to_builtins(value, enc_hook=_nothing)):
        raise not_finite()
    return raw


def _nothing(_: Any) -> None:
    """What is seen of `msgspec.Raw`, which is JSON text already, and taken as it is."""


def is_finite(value: Any) -> bool:
    """Whether no number in it is NaN or infinite. Looks into what JSON has, and nothing else."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, float):
            if not isfinite(part):
                return False
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple | set | frozenset):
            waiting.extend(part)
    return True


def not_finite() -> RecordError:
    """The error of a value with such a number."""
    return RecordError(
        "A number is NaN or infinite, which JSON does not have. Nothing of the event was done. "
        "Write None, or text, where there is no number.",
        kind="NotFinite",
    )


def may_hold_float(record_type: Any) -> bool:
    """Whether a value of this type can have a float in it. True where that is not known."""
    seen: set[int] = set()
    waiting = [inspect.type_info(record_type)]
    while waiting:
        kind = waiting.pop()
        if id(kind) in seen or isinstance(kind, _WITHOUT):
            continue
        seen.add(id(kind))
        parts = list(_parts(kind))
        if not parts and not isinstance(kind, inspect.StructType | inspect.TupleType):
            return True
        waiting += parts
    return False


def _parts(kind: Any) -> Iterator[Any]:
    """The types a type is made of."""
    for name in _PARTS:
        found = getattr(kind, name, ())
        for part in found if isinstance(found, tuple) else (found,):
            yield part.type if hasattr(part, "encode_name") else part
