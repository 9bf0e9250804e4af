"""Bad records: each kind the contract names is a `RecordError` that says what is wrong; nothing else ever escapes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.codec import Codec
from streamapp.errors import RecordError
from streamapp.records import Transfer

CODEC = Codec(Transfer)
GOOD: dict[str, Any] = {
    "event_id": "t-1",
    "occurred_at": "2026-01-31T12:00:00Z",
    "from_account": "alice",
    "to_account": "bob",
    "amount": 5,
    "currency": "EUR",
}


def encoded(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_a_good_record_survives_the_round_trip() -> None:
    record = CODEC.decode(encoded(newer_field=[1, {"a": None}]))
    assert json.loads(CODEC.encode(record)) == GOOD
    assert CODEC.key(record) == b"alice"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "null"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b'{"event_id":"\xff"}', "not JSON"),
        (encoded().replace(b"5", b"NaN"), "not JSON"),
        (encoded(amount=True), "$.amount"),
        (encoded(amount="5"), "$.amount"),
        (encoded(amount=5.0), "$.amount"),
        (encoded(amount=2**63), "$.amount"),
        (encoded(amount=-(2**63) - 1), "$.amount"),
        (encoded(amount=10**30), "$.amount"),
        (encoded(event_id=None), "$.event_id"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "currency"}).encode(), "currency"),
        (encoded(occurred_at="yesterday"), "RFC 3339"),
        (encoded(occurred_at="2026-01-31T12:00:00+01:00"), "RFC 3339"),
        (encoded(note="x" * (1 << 20)), "1,048,576 are allowed"),
        (encoded().replace(b"5,", b"5, " + b'"deep": ' + b"[" * 32 + b"]" * 32 + b","), "nested deeper than 32"),
        (encoded().replace(b"5,", b"5, " + b'"deep": ' + b"[" * 9000 + b"]" * 9000 + b","), "nested deeper than 32"),
        (b"[" * 100_000, "Expected `object`"),
        (encoded()[:-1] + b',"amount":7}', "the name 'amount' is twice"),
        (encoded()[:-1] + b',"\\u0061mount":7}', "the name 'amount' is twice"),
        (encoded(more=[{"deep": "QQ"}]).replace(b'"QQ"', b'1,"deep":2'), "the name 'deep' is twice"),
        (encoded(note=2**63), "64 are allowed"),
        (encoded(more=[{"deep": -(2**63) - 1}]), "64 are allowed"),
        (encoded(note="QQ").replace(b'"QQ"', b"1e400"), "out of range"),
        (encoded(note="QQ").replace(b"QQ", b"\xff"), "utf-8"),
        (encoded(note="\ud83d"), "not JSON"),
    ],
)
def test_a_bad_record_is_named(value: bytes | None, says: str) -> None:
    with pytest.raises(RecordError) as caught:
        CODEC.decode(value)
    assert says in str(caught.value)


def test_nesting_at_the_limit_is_allowed_and_brackets_in_text_do_not_count() -> None:
    CODEC.decode(encoded().replace(b"5,", b"5, " + b'"deep": ' + b"[" * 31 + b"]" * 31 + b","))
    CODEC.decode(encoded(note='[{"\\' * 1000))
    CODEC.decode(encoded(note=[[], {}] * 50, more=2**63 - 1, less=-(2**63), text=":" * 50, same={"amount": {"a": 1}}))


@given(st.binary(max_size=200))
def test_no_bytes_escape_as_another_error(value: bytes) -> None:
    with pytest.raises(RecordError):
        CODEC.decode(value)


def test_the_key_must_be_the_key_field() -> None:
    record = CODEC.decode(encoded(from_account="zoë"))
    CODEC.check_key(record, "zoë".encode())
    for key in (None, b"", b"bob", b"\xff"):
        with pytest.raises(RecordError) as caught:
            CODEC.check_key(record, key)
        assert caught.value.kind == "KeyMismatch"


def test_an_event_may_be_an_hour_ahead_of_its_append_time_and_no_more() -> None:
    record = CODEC.decode(encoded(occurred_at="2026-01-31T13:00:00Z"))
    noon = 1_769_860_800.0
    CODEC.check_time(record, noon)
    with pytest.raises(RecordError, match="ahead of the append time"):
        CODEC.check_time(record, noon - 1)


class Stamped(msgspec.Struct):
    """A user's record, whose field is not checked by its own type."""

    occurred_at: str | None = None


class Dated(msgspec.Struct):
    """The same with another type."""

    occurred_at: datetime


class Counted(msgspec.Struct):
    """A user's record whose field of that name is no time of ours."""

    occurred_at: int


@given(st.one_of(st.none(), st.text(max_size=30), st.datetimes(), st.datetimes(timezones=st.just(UTC))))
def test_whatever_a_field_says_its_time_is_good_or_a_bad_record(found: str | datetime | None) -> None:
    record: Any = Dated(found) if isinstance(found, datetime) else Stamped(found)
    try:
        Codec(type(record)).check_time(record, 1e9)
    except RecordError as exc:
        assert exc.kind in ("InvalidRecord", "TooFarAhead")


@pytest.mark.parametrize("text", ["now", "2026-01-31", "2026-01-31T12:00:00", "2026-13-31T12:00:00Z"])
def test_text_that_is_no_time_is_a_bad_record(text: str) -> None:
    with pytest.raises(RecordError, match="occurred_at") as caught:
        Codec(Stamped).check_time(Stamped(text), 1e9)
    assert caught.value.kind == "InvalidRecord"


def test_a_field_that_is_empty_says_nothing() -> None:
    for found in (None, ""):
        Codec(Stamped).check_time(Stamped(found), 1e9)


def test_a_number_called_occurred_at_is_not_ours_to_judge() -> None:
    Codec(Counted).check_time(Counted(2**60), 1e9)
