"""The whole of a value is judged for every type of record, and quotation marks alone never hide what is wrong."""

from __future__ import annotations

import enum
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamapp.codec import Codec
from streamapp.errors import RecordError
from streamapp.strict import Plain


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


class Flat(msgspec.Struct, frozen=True):
    name: str
    number: int
    rate: float
    is_new: bool
    kind: Literal["a", "b"]
    colour: Colour
    at: datetime


class Varying(msgspec.Struct, frozen=True, rename="camel"):
    first_name: str
    note: str | None = None
    count_of: int = 0
    ratio: float | None = None
    level: Level = Level.LOW
    either: str | int = 0
    kind: Annotated[Literal["a", 1], msgspec.Meta()] = 1


class Nullable(msgspec.Struct, frozen=True):
    name: str
    reason: str | None


class Nested(msgspec.Struct, frozen=True):
    name: str
    more: dict[str, int]
    parts: list[Nullable]


class Mended(msgspec.Struct):
    """Has another value than the one it came with."""

    name: str
    note: str | None = None

    def __post_init__(self) -> None:
        self.note = self.note or "none"


class Tagged(msgspec.Struct, frozen=True, tag=True):
    name: str


TYPES = (Flat, Varying, Nullable, Nested, Mended, Tagged)
_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_JSON = msgspec.json.Encoder()


def _records_of(kind: Any) -> st.SearchStrategy[Any]:
    if kind is Flat:
        return st.builds(Flat, rate=_FINITE, at=st.datetimes(timezones=st.just(UTC)))
    return st.builds(kind, ratio=st.none() | _FINITE) if kind is Varying else st.from_type(kind)


def members_of(record: Any) -> list[tuple[str, str]]:
    """The members of its JSON, each as a name and a text."""
    found = json.loads(_JSON.encode(record))
    return [(json.dumps(name), json.dumps(value, ensure_ascii=False)) for name, value in found.items()]


def text_of(members: list[tuple[str, str]]) -> bytes:
    return ("{" + ",".join(f"{name}:{text}" for name, text in members) + "}").encode()


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=60)
@given(data=st.data())
def test_a_record_is_read_and_with_any_member_twice_it_is_not(kind: Any, data: st.DataObject) -> None:
    codec: Codec[Any] = Codec(kind)
    record = data.draw(_records_of(kind))
    members = members_of(record)
    if kind is Varying:  # those that say only a default may be missing
        kept = data.draw(st.sets(st.sampled_from([name for name, _ in members[1:]])))
        whole = {field.encode_name: field.default for field in msgspec.structs.fields(kind)[1:]}
        default = {json.dumps(name): json.loads(_JSON.encode(value)) for name, value in whole.items()}
        members = [(n, t) for n, t in members if n not in default or json.loads(t) != default[n] or n in kept]
    assert codec.decode(text_of(members)) == record
    repeated = data.draw(st.sampled_from(members))
    at = data.draw(st.integers(0, len(members)))
    with pytest.raises(RecordError, match="twice"):
        codec.decode(text_of([*members[:at], repeated, *members[at:]]))


def test_only_what_can_be_counted_is_counted() -> None:
    marks = {kind.__name__: Plain(kind).marks for kind in TYPES}
    assert marks == {"Flat": 22, "Varying": 4, "Nullable": 4, "Nested": -1, "Mended": -1, "Tagged": -1}


def test_an_integer_of_a_declared_field_is_its_types_affair() -> None:
    codec = Codec(Nested)
    assert codec.decode(b'{"name":"a","parts":[],"more":{"x":18446744073709551616}}').more == {"x": 2**64}
    with pytest.raises(RecordError, match="64 are allowed"):
        codec.decode(b'{"name":"a","parts":[],"more":{},"x":18446744073709551616}')


def test_a_row_is_read_as_it_was_written() -> None:
    deep: Any = {}
    for _ in range(40):
        deep = {"a": deep}

    class Row(msgspec.Struct):
        deep: Any

    codec = Codec(Row)
    assert codec.load(codec.encode(Row(deep))) == Row(deep)
