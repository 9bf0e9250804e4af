"""Values read from bytes as the contract defines them: what a good record is, and what is wrong with a bad one.

Written from the contract (docs/bad-input.md) alone, with the standard library's parser where the service uses another.
The whole of a value is judged, declared fields or not, and both say the same of every text: a fuzz holds them together.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

MAX_VALUE_BYTES = 1 << 20
MAX_DEPTH = 32
#: Bytes of an id or a name that a sender chose.
MAX_NAME_BYTES = 1 << 14
#: How far `occurred_at` may be ahead of the append time.
MAX_AHEAD_US = 3_600_000_000

_LARGEST, _SMALLEST = (1 << 63) - 1, -(1 << 63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: RFC 3339 as the contract writes it: `T`, UTC, `Z`.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d+)?Z", re.ASCII)


class Malformed(Exception):
    """The value is not what the contract says; `str()` is the reason."""


class Transfer(NamedTuple):
    """The declared fields of a transfer. `occurred_us` is microseconds since 1970, UTC."""

    event_id: str
    from_account: str
    to_account: str
    amount: int
    currency: str
    occurred_us: int


class Leg(NamedTuple):
    """The declared fields of a record of `balances`; `posting` is None in those from before there were postings."""

    event_id: str
    transfer_id: str
    posting: str | None
    leg: str
    account: str
    counterparty: str
    amount: int
    currency: str
    occurred_us: int


class Upsert(NamedTuple):
    """The declared fields of a record of `account-balances`."""

    account: str
    balances: dict[str, int]
    entries: int
    transfer_id: str
    leg: str
    updated_us: int


class Refusal(NamedTuple):
    """The declared fields of a record of `transfer-rejected`."""

    event_id: str
    transfer_id: str
    reason: str
    from_account: str
    to_account: str
    amount: int
    currency: str
    balance: int
    entries: int
    occurred_us: int


def _refuse_constant(name: str) -> Any:
    raise Malformed(f"{name} is not JSON")


def _bounded_integer(text: str) -> int:
    """An integer of any length: one that Python would not even convert is beyond 64 bits, and that is enough."""
    return int(text) if len(text) < 100 else 1 << 300


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of these members, each of which has a name of its own."""
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise Malformed(f"the name {twice!r} is twice in one object")
    return made


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object)
_PATIENT_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, object_pairs_hook=_object, parse_int=_bounded_integer
)
#: Python refuses to convert integers of more digits than this; only such records need the patient decoder.
_LONG_INTEGER = re.compile(r"\d{4000}")


class Shape:
    """Declared fields in their order, with their types; the last one is the time. `nullable`: may be null instead.

    `optional`: may be missing, which is null. `unbounded`: an integer that is a sum, and may have more than 64 bits.
    `names`: ids and names that a sender chose, and `currency`: what the contract bounds.
    """

    def __init__(
        self, *, nullable: str = "", optional: bool = False, unbounded: str = "", names: tuple[str, ...] = (),
        bounded_currency: bool = False, **fields: type,
    ) -> None:  # fmt: skip
        self.fields = fields
        self.pick = operator.itemgetter(*fields)
        self.types = tuple(fields.values())
        self.nullable = nullable
        self.optional = optional
        self.names = names
        self.bounded_currency = bounded_currency
        #: Where the integers are that must fit 64 bits.
        self.bounded = [at for at, (name, kind) in enumerate(fields.items()) if kind is int and name != unbounded]
        #: The types of a record whose nullable field is null.
        self.null_types = tuple(type(None) if name == nullable else kind for name, kind in fields.items())


_TRANSFER = Shape(
    names=("event_id", "from_account", "to_account"), bounded_currency=True, event_id=str, from_account=str,
    to_account=str, amount=int, currency=str, occurred_at=str,
)  # fmt: skip
_LEG = Shape(
    nullable="posting", optional=True, event_id=str, transfer_id=str, posting=str, leg=str, account=str,
    counterparty=str, amount=int, currency=str, occurred_at=str,
)  # fmt: skip
_UPSERT = Shape(account=str, balances=dict, entries=int, transfer_id=str, leg=str, updated_at=str)
_REFUSAL = Shape(
    event_id=str, transfer_id=str, reason=str, from_account=str, to_account=str, amount=int, currency=str, balance=int,
    entries=int, occurred_at=str, unbounded="balance",
)  # fmt: skip


def transfer(value: bytes | None) -> Transfer:
    """A transfer. Raises `Malformed`."""
    return Transfer(*fields_of(value, _TRANSFER))


def leg(value: bytes | None) -> Leg:
    """A record of `balances`. Raises `Malformed`."""
    made = Leg(*fields_of(value, _LEG))
    if made.leg not in ("debit", "credit"):
        raise Malformed(f"leg is {made.leg!r}, not debit or credit")
    return made


def upsert(value: bytes | None) -> Upsert:
    """A record of `account-balances`. Raises `Malformed`."""
    made = Upsert(*fields_of(value, _UPSERT))
    if made.leg not in ("debit", "credit"):
        raise Malformed(f"leg is {made.leg!r}, not debit or credit")
    for currency, amount in made.balances.items():
        if type(amount) is not int:
            raise Malformed(f"the balance in {currency} is {amount!r}, not an integer")
    return made


def refusal(value: bytes | None) -> Refusal:
    """A record of `transfer-rejected`. Raises `Malformed`."""
    return Refusal(*fields_of(value, _REFUSAL))


def fields_of(value: bytes | None, shape: Shape) -> tuple[Any, ...]:
    """The declared fields in their order, the time as microseconds; fields that are not declared are ignored.

    Raises `Malformed`.
    """
    document = _document(value)
    if shape.optional:
        document.setdefault(shape.nullable, None)
    try:
        found: tuple[Any, ...] = shape.pick(document)
    except KeyError as exc:
        raise Malformed(f"{exc.args[0]} is missing") from None
    types = tuple(map(type, found))
    if types != shape.types and types != shape.null_types:  # exactly: `true` is no integer
        raise Malformed(_wrong_type(document, shape))
    for at in shape.bounded:
        if not _SMALLEST <= found[at] <= _LARGEST:
            raise Malformed(f"{_short(found[at])} does not fit 64 bits")
    if value is not None and len(value) > MAX_NAME_BYTES:
        _judge_names(document, shape.names)
    if shape.bounded_currency and not _CURRENCY.fullmatch(document["currency"]):
        raise Malformed(f"the currency {_short(document['currency'])} is not three letters A-Z")
    if len(document) > len(types):
        _judge_undeclared([field for name, field in document.items() if name not in shape.fields])
    return *found[:-1], microseconds(found[-1])


def _wrong_type(document: dict[str, Any], shape: Shape) -> str:
    name, kind = next((name, kind) for name, kind in shape.fields.items() if type(document[name]) is not kind)
    return f"{name} is {_short(document[name])}, not {_KINDS[kind]}"


_KINDS = {str: "text", int: "an integer", dict: "an object", bool: "true or false"}


def _document(value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise Malformed("there is no value")
    if len(value) > MAX_VALUE_BYTES:
        raise Malformed(f"{len(value):,} bytes are over 1 MiB")
    try:
        text = value.decode()
        patient = len(text) > 4_000 and _LONG_INTEGER.search(text)
        document = (_PATIENT_DECODER if patient else _DECODER).decode(text)
    except UnicodeDecodeError as exc:
        raise Malformed(f"not UTF-8: {exc.reason} at byte {exc.start}") from None
    except RecursionError:
        raise Malformed(f"nested deeper than {MAX_DEPTH}") from None
    except ValueError as exc:
        raise Malformed(f"not JSON: {exc}") from None
    if type(document) is not dict:
        raise Malformed(f"{_short(document)} is no object")
    if _brackets(value) > MAX_DEPTH and _depth(document) > MAX_DEPTH:
        raise Malformed(f"nested deeper than {MAX_DEPTH}")
    if b"\\u" in value and _HALF_A_PAIR.search(json.dumps(document, ensure_ascii=False)):
        raise Malformed("half a surrogate pair is no UTF-8 text")
    return document


#: It can be escaped in JSON, but is no UTF-8 and could never be a key.
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


_CURRENCY = re.compile("[A-Z][A-Z][A-Z]")


def _judge_names(document: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if (size := len(document[name].encode())) > MAX_NAME_BYTES:
            raise Malformed(f"{name} has {size:,} bytes, more than 16 KiB")


def _judge_undeclared(fields: list[Any]) -> None:
    """What nobody declared is judged, too: integers have 64 bits, and other numbers are finite."""
    within = (field for level in _levels(fields) for part in level for field in _inside(part))
    for field in (*fields, *within):
        if type(field) is int and not _SMALLEST <= field <= _LARGEST:
            raise Malformed(f"{_short(field)} does not fit 64 bits")
        if type(field) is float and math.isinf(field):
            raise Malformed("a number beyond every finite one")


@lru_cache(maxsize=1 << 16)
def microseconds(text: str) -> int:
    """RFC 3339 with `Z` as microseconds since 1970; digits beyond are cut off. Raises `Malformed`."""
    if not _TIME.fullmatch(text):
        raise Malformed(f"{_short(text)} is no RFC 3339 time in UTC")
    try:
        instant = text
        if instant[17:19] == "60":  # a leap second, which POSIX time does not know: the second before it
            instant = f"{instant[:17]}59{instant[19:]}"
        return (datetime.fromisoformat(instant) - _EPOCH) // _MICROSECOND
    except ValueError as exc:
        raise Malformed(f"{text!r} is no time: {exc}") from None


def _brackets(value: bytes) -> int:
    return value.count(b"{") + value.count(b"[")


def _levels(fields: list[Any]) -> Iterator[list[Any]]:
    """The objects and arrays among these, level by level, the outermost first; not by recursion, they may be deep."""
    level = fields
    while level := [part for part in level if isinstance(part, dict | list)]:
        yield level
        level = [inner for part in level for inner in _inside(part)]


def _inside(part: Any) -> Iterable[Any]:
    return part.values() if isinstance(part, dict) else part


def _depth(root: Any) -> int:
    return sum(1 for _ in _levels([root]))


def _short(field: Any) -> str:
    shown = repr(field)
    return shown if len(shown) <= 40 else shown[:37] + "..."
