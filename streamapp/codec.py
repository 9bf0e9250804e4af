"""Bytes to typed records and back. Input is untrusted: whatever is wrong with it is a `RecordError`, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec

from streamapp import finite
from streamapp.clock import instant
from streamapp.errors import RecordError
from streamapp.foreign import recognized
from streamapp.records import NAME_BYTES_MAX
from streamapp.strict import Plain, judge, too_deep
from streamapp.topics import MAX_RECORD_BYTES

R = TypeVar("R", bound=msgspec.Struct)

#: How far an event may be ahead of its append time.
AHEAD_MAX_S = 3600.0
#: The field with an event's time.
TIME_FIELD = "occurred_at"

#: Up to so many bytes a loop over them is the quickest when it is compiled, and none when it is not.
_LOOPED_BYTES = 0 if __file__.endswith(".py") else 512


class Decoder:
    """Decodes one type of record, and judges the whole of what it is given (`strict.py`)."""

    __slots__ = ("_declared", "_decode", "_easy_bytes", "_marks", "_more", "_names")

    def __init__(self, record_type: Any) -> None:
        self._decode = msgspec.json.Decoder(record_type).decode
        plain = Plain(record_type)
        self._declared = plain.declared
        self._marks = plain.marks
        self._more = plain.more if plain.varying else None
        self._names: tuple[str, ...] = getattr(record_type, "NAMES", ())
        #: In so few bytes no name can be too long.
        self._easy_bytes = NAME_BYTES_MAX if self._names else MAX_RECORD_BYTES

    def decode(self, value: bytes | None) -> Any:
        """See `Codec.decode`."""
        if value is None:
            raise RecordError("the value is null; a JSON object is expected")
        if len(value) > MAX_RECORD_BYTES:
            raise RecordError(f"the value has {len(value):,} bytes; {MAX_RECORD_BYTES:,} are allowed")
        record = self.load(value)
        # Their number rules out nearly every record; only the others are taken apart.
        more = quotation_marks(value) - self._marks
        if self._marks < 0 or more != (0 if self._more is None else self._more(record)):
            judge(value, self._declared)
        if len(value) > self._easy_bytes:
            bound_names(record, self._names)
        return record

    def load(self, value: bytes) -> Any:
        """The record in what an encoder of ours wrote; of other values it finds out only what its type says."""
        try:
            return self._decode(value)
        except msgspec.ValidationError as exc:
            raise RecordError(str(exc), kind="InvalidRecord") from None
        except RecursionError:
            raise too_deep() from None
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            found = recognized(value)
            raise RecordError(f"not JSON: {exc}" if found is None else f"not JSON but {found} ({exc})") from None


class Codec(Generic[R]):
    """Decodes and encodes one type of record. Stateless after construction; safe to share."""

    def __init__(self, record_type: type[R]) -> None:
        self.record_type = record_type
        key_field: str | None = getattr(record_type, "KEY", None)
        #: The text that must be the record's key; None where the type has no `KEY`.
        self.key_text: Callable[[R], str] | None = attrgetter(key_field) if key_field else None
        #: Whether the record may say when it happened.
        self.has_time = TIME_FIELD in record_type.__struct_fields__
        self.decoder = Decoder(record_type)
        #: Compact JSON, UTF-8, fields in the order of the struct. `RecordError` for NaN and infinities.
        self.encode: Callable[[R], bytes] = finite.encoder(record_type)

    def decode(self, value: bytes | None) -> R:
        """The record in `value`. Raises `RecordError` that says which field is wrong and how."""
        return self.decoder.decode(value)

    def load(self, value: bytes) -> R:
        """The record in bytes that `encode` made: a table's row."""
        return self.decoder.load(value)

    def key(self, record: R) -> bytes:
        """The key this record must have."""
        if self.key_text is None:
            raise TypeError(f"{self.record_type.__name__} has no KEY")
        return self.key_text(record).encode()

    def check_key(self, record: R, key: bytes | None) -> None:
        """Raise `RecordError` (`KeyMismatch`) unless `key` is the text of the record's key field."""
        if self.key_text is not None and key != self.key_text(record).encode():
            shown = "null" if key is None else repr(key[:100].decode("utf-8", "replace"))
            field = self.record_type.KEY  # type: ignore[attr-defined]
            raise RecordError(f"the key {shown} is not the field {field}", kind="KeyMismatch")

    def check_time(self, record: R, appended_at: float) -> None:
        """Raise `RecordError` if the event says it happened over an hour after it was appended (seconds).

        Also for text that is no time. A field of another type, or one that is None or empty, says nothing.
        """
        found = record.occurred_at if self.has_time else None  # type: ignore[attr-defined]
        if found and isinstance(found, str | datetime):
            try:
                happened = instant(found).timestamp()
            except ValueError as exc:
                raise RecordError(f"{TIME_FIELD}: {exc}", kind="InvalidRecord") from None
            if happened - appended_at > AHEAD_MAX_S:
                raise RecordError(
                    f"occurred_at is {happened - appended_at:,.0f} s ahead of the append time; "
                    f"{AHEAD_MAX_S:,.0f} s are allowed",
                    kind="TooFarAhead",
                )


def bound_names(record: Any, names: tuple[str, ...]) -> None:
    """Raise `RecordError` where one of these fields has more than `NAME_BYTES_MAX` bytes."""
    for name in names:
        size = len(getattr(record, name).encode())
        if size > NAME_BYTES_MAX:
            raise RecordError(f"{name} has {size:,} bytes; {NAME_BYTES_MAX:,} are allowed", kind="InvalidRecord")


def quotation_marks(value: bytes) -> int:
    """How many there are in JSON text, escaped ones too."""
    if len(value) > _LOOPED_BYTES:
        return value.count(b'"')
    found = 0
    for byte in value:
        found += byte == 0x22
    return found
