"""Keys and values of a table as they are stored: Faust's bytes, so that its changelogs restore to the same rows.

A key of bytes is stored as it is, every other one as JSON. So `b"1"` and `1` have the same bytes. Which of them a row
belongs to is said by white space behind the value, which no reader of JSON minds:

    "ann" -> 5        nothing behind it, also in rows of Faust and of earlier versions
    1     -> 5\\n      every other key that is JSON
    b"1"  -> 5 + " "  a key of bytes that could be read as JSON

A row with nothing behind its value is found by either key. One row is never two keys': that is a `RecordError`.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import msgspec
from faust.exceptions import KeyDecodeError, ValueDecodeError
from msgspec import inspect

from streamapp.codec import Codec
from streamapp.errors import RecordError
from streamapp.finite import is_finite, not_finite

_OF_BYTES, _OF_JSON = b" ", b"\n"
#: Levels of objects and arrays in a row; Python's own reader ends at about 1,000.
NESTING_MAX = 200
#: Looks of values that are remembered.
_LOOKS_MAX = 1000
#: What a table without a type of value can always read again.
SCALARS = (str, int, bool, type(None))


class TableKeys:
    """The keys of one table. `serializers`: Faust's registry."""

    def __init__(self, table: str, serializers: Any, key_type: Any, serializer: Any) -> None:
        self._table = table
        self._serializers = serializers
        self._type = key_type
        self._serializer = serializer
        is_struct = isinstance(key_type, type) and issubclass(key_type, msgspec.Struct)
        self._codec: Codec[Any] | None = Codec(key_type) if is_struct else None

    def dump(self, key: Any) -> bytes:
        """The stored key. `RecordError` for one that is not of the declared type or that JSON does not have."""
        wanted = bytes if self._type is bytes else self._type if self._codec else None
        if wanted is not None and not isinstance(key, wanted):
            raise RecordError(f"Table {self._table}: a key is {type(key).__name__}, not {wanted.__name__}.", kind=_KIND)
        if self._codec is not None:
            return self._codec.encode(key)
        try:
            return bytes(self._serializers.dumps_key(self._type, key, serializer=self._serializer))
        except (TypeError, ValueError, RecursionError) as exc:
            raise RecordError(f"Table {self._table}: a key cannot be stored: {exc}", kind=_KIND) from exc

    def load(self, raw: bytes, value: bytes = b"") -> Any:
        """The key as the agent wrote it, from a row's bytes."""
        if self._codec is not None:
            return self._codec.load(raw)
        if self._type is bytes or value.endswith(_OF_BYTES):
            return raw
        try:
            key = self._serializers.loads_key(self._type, raw, serializer=self._serializer)
        except KeyDecodeError:
            return raw
        return _tuples(key) if self._type is None else key

    def mark(self, key: Any, raw: bytes) -> bytes:
        """What goes behind the value of the row."""
        if type(key) is str or self._codec is not None or self._type is bytes:
            return b""
        if isinstance(key, bytes):
            return b"" if isinstance(self.load(raw), bytes) else _OF_BYTES
        return _OF_JSON

    def check(self, key: Any, raw: bytes, value: bytes | None) -> None:
        """Raise `RecordError` where the row with this value belongs to another key of the same bytes."""
        behind = value[-1:] if value else b""
        if behind in (_OF_BYTES, _OF_JSON) and self.mark(key, raw) != behind:
            raise RecordError(
                f"Table {self._table}: {key!r:.200} is stored as {self.load(raw, behind)!r:.200} is, which has a row. "
                "Nothing was changed. Use one type of key, and declare it: app.Table(..., key_type=bytes).",
                kind=_KIND,
            )


class SeenValues:
    """Which values of a record type are known to be read again: by the types of their fields, and by constants.

    Only of types without rules for the values of a field (bounds, patterns, `__post_init__`).
    """

    def __init__(self, record_type: Any) -> None:
        self._type = record_type
        fields = inspect.type_info(record_type).fields  # type: ignore[attr-defined]
        self._is_plain = bool(fields) and not hasattr(record_type, "__post_init__")
        self._is_plain = self._is_plain and all(_is_plain(field.type) for field in fields)
        self._fields = attrgetter(*(field.name for field in fields)) if len(fields) > 1 else None
        self._constants = [attrgetter(field.name) for field in fields if isinstance(field.type, inspect.LiteralType)]
        self._known: set[tuple[Any, ...]] = set()

    def look(self, value: Any) -> tuple[Any, ...] | None:
        """What is known of values like this one; None: each is another matter."""
        if type(value) is not self._type or not self._is_plain or self._fields is None:
            return None
        return (*map(type, self._fields(value)), *(str(get(value)) for get in self._constants))

    def knows(self, look: tuple[Any, ...] | None) -> bool:
        return look in self._known

    def read(self, look: tuple[Any, ...] | None) -> None:
        """A value of this look was read again."""
        if look is not None and len(self._known) < _LOOKS_MAX:
            self._known.add(look)


def _is_plain(kind: Any) -> bool:
    """Whether the type of a value alone says that it can be read again."""
    if isinstance(kind, inspect.Metadata):
        return _is_plain(kind.type)
    if isinstance(kind, inspect.UnionType):
        return all(_is_plain(part) for part in kind.types)
    if isinstance(kind, inspect.DictType):
        return _is_plain(kind.key_type) and _is_plain(kind.value_type) and kind.max_length is None
    if isinstance(kind, inspect.IntType | inspect.StrType):
        return kind == type(kind)()
    return isinstance(kind, inspect.BoolType | inspect.NoneType | inspect.LiteralType)


def readable(table: str, value: Any, raw: bytes, load: Any) -> bytes:
    """`raw`, a value's bytes. `RecordError` where a row of them could not be read again."""
    given = isinstance(value, bytes)
    if given:
        raw = raw.rstrip(b" \n")
    try:
        loaded = load(raw)
    except (ValueDecodeError, RecordError, ValueError, RecursionError) as exc:
        raise RecordError(f"Table {table}: the value could not be read again: {exc}", kind="UnreadableRow") from exc
    if given and not is_finite(loaded):
        raise not_finite()
    if len(raw) > NESTING_MAX and raw.count(b"[") + raw.count(b"{") > NESTING_MAX and _depth(raw) > NESTING_MAX:
        raise RecordError(f"Table {table}: the value is nested deeper than {NESTING_MAX} levels.", kind="UnreadableRow")
    return raw


def _depth(raw: bytes) -> int:
    """Levels of objects and arrays in JSON text."""
    deepest = level = 0
    in_text = escaped = False
    for byte in raw:
        if in_text:
            in_text = escaped or byte != 0x22
            escaped = byte == 0x5C and not escaped
        elif byte == 0x22:
            in_text = True
        elif byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest


def _tuples(key: Any) -> Any:
    """JSON's arrays as tuples: a list is no key."""
    return tuple(map(_tuples, key)) if isinstance(key, list) else key


_KIND = "InvalidKey"
