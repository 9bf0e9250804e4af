"""The inbox: whether an event was processed before. Pure decisions; where the marks are kept is the driver's affair.

A mark is one row: (agent, record key, event id) -> status, attempts, append time and a hash of the content.

    no mark, FAILED, or older than the retention   FRESH       the event runs, attempts + 1 after a failure
    PROCESSED, same content                        DUPLICATE   it is finished at once, and counted
    PROCESSED, other content                       CONFLICT    a dead letter: the first one stands

The inbox removes repeats *the sender made*. Repeats the engine makes (a rewind, a crash) are the transaction's
affair: the mark is in the transaction of the event it belongs to, so it is there if and only if the effects are.

Age is counted in append time, from the first record to the second, so a replay decides the same. The same id under
another key is another mark, because it may live in another partition, which this one cannot see.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, IntEnum
from hashlib import blake2b
from operator import attrgetter, itemgetter, methodcaller
from typing import Any, NamedTuple

import msgspec

from streamapp.errors import ConfigurationError, RecordError
from streamapp.finite import is_finite

#: Name of the table that holds an app's marks.
TABLE = "inbox"
CONFLICT_KIND = "EventIdConflict"
NO_KEY_KIND = "NoKey"

_CONTENT_BYTES = 16
_ATTEMPTS_MAX = 255
#: The latest time of a mark, in seconds since the epoch: February 2106.
STAMP_MAX_S = 2**32 - 1
_LAYOUT = struct.Struct(f">BBI{_CONTENT_BYTES}s")
_pack = _LAYOUT.pack


class InboxVerdict(Enum):
    """What is to be done with an event."""

    FRESH = "fresh"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class InboxStatus(IntEnum):
    """How the event ended. FAILED is not "seen": its dead letter may be sent again."""

    PROCESSED = 1
    FAILED = 2


class Mark(NamedTuple):
    """The outcome of one event for one agent: 22 bytes in the store and in the changelog."""

    status: InboxStatus
    #: How often the event has run, this time included; 255 stands for every larger number.
    attempts: int
    #: Append time of the event's record, seconds since the epoch.
    appended_s: int
    content: bytes

    def pack(self) -> bytes:
        return packed_mark(self.status, self.attempts, self.appended_s, self.content)

    @classmethod
    def unpack(cls, raw: bytes) -> Mark:
        """The mark in `raw`. `ValueError` when it is none: the table belongs to something else."""
        try:
            status, attempts, appended_s, content = _LAYOUT.unpack(raw)
        except struct.error as exc:
            raise ValueError(f"{raw[:40]!r} is no mark of an inbox: {exc}") from None
        return cls(InboxStatus(status), attempts, appended_s, content)


def packed_mark(status: InboxStatus, attempts: int, appended_s: int, content: bytes) -> bytes:
    """A mark as it is stored, without the tuple: the hot path."""
    return _pack(status, attempts if attempts < _ATTEMPTS_MAX else _ATTEMPTS_MAX, appended_s, content)


def judge(mark: Mark | None, content: bytes, appended_s: int, retention_s: float) -> InboxVerdict:
    """What to do with an event of this content, appended then, given the mark of its id (None: there is none).

    The record of a FAILED mark may come again mended: it had no effect, so its content is not held against it.
    """
    if mark is None or mark.status is InboxStatus.FAILED or appended_s - mark.appended_s > retention_s:
        return InboxVerdict.FRESH
    return InboxVerdict.DUPLICATE if mark.content == content else InboxVerdict.CONFLICT


def attempts_of(mark: Mark | None) -> int:
    """How often an event will have run when it runs now."""
    return mark.attempts + 1 if mark is not None and mark.status is InboxStatus.FAILED else 1


#: A copy is made faster than the first one.
_new_hash = blake2b(digest_size=_CONTENT_BYTES).copy
_encode_key = msgspec.json.Encoder().encode
_encode_content = msgspec.msgpack.Encoder(order="deterministic", enc_hook=str).encode


def mark_key(agent: str, key: bytes | None, event_id: tuple[Any, ...]) -> bytes:
    """The row of a mark, a JSON list that people and other programs can read: `["agent", "key", "id"]`.

    A key that is not UTF-8 is shown as a list with its hexadecimal text, so that no two keys look alike.
    """
    try:
        shown: Any = key.decode() if key is not None else None
    except UnicodeDecodeError:
        shown = [key.hex()]  # type: ignore[union-attr]
    try:
        if len(event_id) == 1:
            return _encode_key((agent, shown, event_id[0]))
        return _encode_key((agent, shown, *event_id))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise RecordError(f"the event id cannot be kept as a mark: {exc}", kind="InvalidRecord") from None


#: What it makes of a value: the fields of an event id as a tuple, or the content.
_Reader = Callable[[Any], Any]


class Fields:
    """Reads event id and content of values: structs, Faust records, dataclasses and parsed JSON objects.

    `event_id` may name several fields, which together are the id. `content` None: all declared fields, or the whole
    object where nothing is declared. `optional`: fields of the id that are no part of it where they are None.
    """

    def __init__(self, event_id: str | tuple[str, ...], content: tuple[str, ...] | None = None) -> None:
        self.event_id = (event_id,) if isinstance(event_id, str) else tuple(event_id)
        self.content = content
        self.optional: frozenset[str] = frozenset()
        if not self.event_id:
            raise ConfigurationError("inbox: event_id must name at least one field.")
        self._has_one = len(self.event_id) == 1
        self._of_objects = attrgetter(*self.event_id)
        self._of_mappings = itemgetter(*self.event_id)
        #: Type of a value -> how its event id and its content are read; asked for at every event.
        self._readers: dict[type, tuple[_Reader, _Reader]] = {}

    def check(self, declared: Iterable[str], where: str, extra: Iterable[str] = ()) -> None:
        """Raise `ConfigurationError` for fields that the record type does not have."""
        missing = [name for name in (*self.event_id, *(self.content or ()), *extra) if name not in set(declared)]
        if missing:
            raise ConfigurationError(
                f"inbox of {where}: there is no field {', '.join(sorted(set(missing)))}. "
                f"The record has {', '.join(declared)}."
            )

    def _readers_of(self, value: Any) -> tuple[_Reader, _Reader]:
        kind = type(value)
        found = self._readers.get(kind)
        if found is None:
            of_mapping = issubclass(kind, dict | Mapping)
            content: _Reader = _itself
            if self.content:
                content = _reader(itemgetter if of_mapping else attrgetter, self.content)
            elif not (of_mapping or issubclass(kind, msgspec.Struct)) and hasattr(kind, "asdict"):
                content = methodcaller("asdict")  # a Faust record; msgspec encodes the others by itself
            found = self._readers[kind] = (self._of_mappings if of_mapping else self._of_objects, content)
        return found

    def id_of(self, value: Any) -> tuple[Any, ...]:
        """The values of the event id. `RecordError` when one is missing: without it a repeat cannot be told."""
        try:
            read = self._readers_of(value)[0]
            found: tuple[Any, ...] = (read(value),) if self._has_one else read(value)
        except (AttributeError, KeyError, TypeError):
            found = (None,)
        if None in found:
            given = [  # no generator: a compiled method has no closures
                part
                for name, part in zip(self.event_id, found, strict=False)
                if part is not None or name not in self.optional
            ]
            found = tuple(given)
            if value is None:
                raise RecordError(
                    f"the value is null, so it has no event id ({' and '.join(self.event_id)}) to tell a repeat by. "
                    "An agent that takes null values has no @inbox.",
                    kind="InvalidRecord",
                )
            if None in found or not found:
                raise RecordError(f"the record has no event id: {' and '.join(self.event_id)}", kind="InvalidRecord")
        for part in found:
            if type(part) is not str and type(part) is not int and not is_finite(part):  # it would be kept as null
                raise RecordError(f"the event id is not a number: {' and '.join(self.event_id)}", kind="InvalidRecord")
        return found

    def hash_of(self, value: Any) -> bytes:
        """A hash of the content, 16 bytes. Order of keys and white space are not content."""
        try:
            content = self._readers_of(value)[1](value)
        except (AttributeError, KeyError, TypeError) as exc:
            raise RecordError(f"the record lacks a field of its content: {exc}", kind="InvalidRecord") from None
        hashed = _new_hash()
        try:
            hashed.update(_encode_content(content))
        except (OverflowError, UnicodeEncodeError):
            hashed.update(_encoded_beyond(content))
        return hashed.digest()


def _encoded_beyond(content: Any) -> bytes:
    """Content with what MessagePack cannot hold: integers beyond 64 bits, text with half a surrogate pair."""
    plain = msgspec.to_builtins(content, enc_hook=str)
    return json.dumps(plain, sort_keys=True, default=str).encode()


def _reader(getter: Any, names: tuple[str, ...]) -> _Reader:
    """As `attrgetter` or `itemgetter`, with a tuple for one name too."""
    get = getter(*names)
    if len(names) > 1:
        return get  # type: ignore[no-any-return]
    return lambda value: (get(value),)


def _itself(value: Any) -> Any:
    return value
