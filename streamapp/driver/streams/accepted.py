"""What a consumer of this app will refuse is refused where it is sent: in the event that sends it."""

from __future__ import annotations

from typing import Any

from msgspec import inspect

from streamapp.codec import Codec
from streamapp.driver.streams.schema import RecordSchema
from streamapp.engine.record import Record
from streamapp.eos.partitioner import DEFAULT
from streamapp.errors import RecordError
from streamapp.topics import MAX_RECORD_BYTES

_FLAT = (inspect.StrType, inspect.IntType, inspect.BoolType, inspect.NoneType, inspect.LiteralType)
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


class ConsumerChecks:
    """The typed readers of one topic. A record of their own type, all flat, is looked at field by field."""

    def __init__(self, app: Any, topic: str) -> None:
        self.topic = topic
        self._app = app
        schemas = [channel.schema for channel in app.topics if topic in getattr(channel, "topics", ())]
        #: How the topic's agents read, where they read records of a type.
        self._schemas = [schema for schema in schemas if isinstance(schema, RecordSchema)]
        self.codecs: list[Codec[Any]] = [schema.codec for schema in self._schemas]
        #: Each type that needs no closer look -> its integers with their bounds.
        self._flat: dict[Any, tuple[tuple[str, int, int], ...]] = {}
        types = {codec.record_type for codec in self.codecs}
        if len(types) == 1:
            (kind,) = types
            bounds = None if hasattr(kind, "NAMES") else integers_of(kind)
            if bounds is not None:
                self._flat[kind] = bounds

    def check(self, key: bytes | None, value: bytes | None, record: Any, partition: int, count: int) -> None:
        """Raise `RecordError` for what an agent of the topic would not accept. `record`: what `value` was made of."""
        if value is None or len(value) > MAX_RECORD_BYTES or not self._is_plain(key, record):
            self._read(key, value, partition, count)

    def _is_plain(self, key: bytes | None, record: Any) -> bool:
        bounds = self._flat.get(type(record))
        if bounds is None:
            return False
        for name, least, most in bounds:
            found = getattr(record, name)
            if found is not None and not least <= found <= most:
                return False
        key_text = self.codecs[0].key_text
        return key_text is None or key == key_text(record).encode()

    def _read(self, key: bytes | None, value: bytes | None, partition: int, count: int) -> None:
        sent = Record(self.topic, partition, 0, int(self._app._clock.now() * 1000), key, value)
        for schema in self._schemas:
            try:
                schema.reader(count, self._app.partitioners.get(self.topic, DEFAULT)).read(sent)
            except RecordError as exc:
                raise RecordError(
                    f"A record for {self.topic} would be refused by this app's own agent of that topic: {exc}. "
                    "Nothing of the event was done.",
                    kind="OutputNotAccepted",
                ) from exc


def integers_of(kind: Any) -> tuple[tuple[str, int, int], ...] | None:
    """The integers of a type with their bounds; None where it has more than text, integers and constants."""
    found: list[tuple[str, int, int]] = []
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        parts = _parts(field.type)
        if not all(isinstance(part, _FLAT) for part in parts) or any(_is_bound(part) for part in parts):
            return None
        found += [(field.name, *_bounds(part)) for part in parts if isinstance(part, inspect.IntType)]
    return tuple(found)


def _parts(kind: Any) -> list[Any]:
    if isinstance(kind, inspect.Metadata):
        return _parts(kind.type)
    return [inner for part in kind.types for inner in _parts(part)] if isinstance(kind, inspect.UnionType) else [kind]


def _is_bound(part: Any) -> bool:
    """Whether a text has rules of its own, or an integer more than bounds."""
    if isinstance(part, inspect.StrType):
        return part != inspect.StrType()
    return isinstance(part, inspect.IntType) and part.multiple_of is not None


def _bounds(part: inspect.IntType) -> tuple[int, int]:
    least = [part.ge, None if part.gt is None else part.gt + 1]
    most = [part.le, None if part.lt is None else part.lt - 1]
    return (
        max((bound for bound in least if bound is not None), default=_SMALLEST),
        min((bound for bound in most if bound is not None), default=_LARGEST),
    )
