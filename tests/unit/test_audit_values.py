"""What the auditor takes for a good record, and murmur2 against the values of Kafka's own tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamapp.audit import values
from streamapp.audit.partitioner import murmur2, partition_of
from streamapp.audit.values import Malformed

GOOD = {
    "event_id": "t1", "from_account": "@bank", "to_account": "émile", "amount": 5, "currency": "EUR",
    "occurred_at": "2026-01-01T00:00:00Z",
}  # fmt: skip


def encoded(**changes: Any) -> bytes:
    return json.dumps({name: field for name, field in (GOOD | changes).items() if field is not ...}).encode()


def test_murmur2_is_kafkas() -> None:
    """Signed values from Apache Kafka's UtilsTest."""
    known = {
        b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829, b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }  # fmt: skip
    assert {key: murmur2(key) - (1 << 32 if murmur2(key) >> 31 else 0) for key in known} == known
    assert partition_of(b"21", 7) == (-973932308 & 0x7FFFFFFF) % 7


@pytest.mark.parametrize(
    "value",
    [
        encoded(),
        encoded(amount=-5),
        encoded(amount=2**63 - 1),
        encoded(amount=-(2**63)),
        encoded(note="fields that are not declared are ignored", more=[1.5, None]),
        encoded(occurred_at="2026-01-01T00:00:00.123456789Z"),
        b" " + encoded() + b"\n",
        encoded(note="x" * ((1 << 20) - len(encoded(note="")))),  # exactly 1 MiB
        encoded(event_id="x" * (1 << 14), to_account="é" * (1 << 13)),
        encoded(event_id="12345678901234567890"),
        encoded(event_id=""),
        encoded(occurred_at="2016-12-31T23:59:60Z"),
        encoded(note=2**63 - 1, more=[-(2**63)]),
    ],
)
def test_good_transfers(value: bytes) -> None:
    assert values.transfer(value).currency == "EUR"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no value"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "no object"),
        (b'"text"', "no object"),
        (b"\xff" + encoded(), "not UTF-8"),
        (b"\xef\xbb\xbf" + encoded(), "not JSON"),
        (encoded() + encoded(), "not JSON"),
        (encoded(event_id=...), "event_id is missing"),
        (encoded(occurred_at=...), "occurred_at is missing"),
        (encoded(amount=5.0), "amount is 5.0"),
        (encoded(amount=True), "amount is True"),
        (encoded(amount="5"), "amount is '5'"),
        (encoded(amount=None), "amount is None"),
        (encoded(amount=2**63), "64 bits"),
        (encoded(amount=-(2**63) - 1), "64 bits"),
        (encoded(amount=float("nan")), "NaN"),
        (encoded(note=float("inf")), "Infinity"),
        (encoded(currency=1), "currency is 1"),
        (encoded()[:-1] + b', "amount": 5}', "'amount' is twice"),
        (encoded()[:-1] + b', "a": [{"b": 1, "\\u0062": 1}]}', "'b' is twice"),
        (encoded(note=2**63), "64 bits"),
        (encoded(more=[{"deep": -(2**63) - 1}]), "64 bits"),
        (encoded()[:-1] + b', "long": ' + b"1" * 5000 + b"}", "64 bits"),
        (encoded()[:-1] + b', "far": 1e400}', "finite"),
        (encoded(note="\ud800"), "surrogate"),
        (encoded(**{"\ud800": 1}), "surrogate"),
        (encoded(occurred_at="2026-01-01T01:00:00+01:00"), "no RFC 3339"),
        (encoded(occurred_at="2026-01-01t00:00:00z"), "no RFC 3339"),
        (encoded(event_id="\ud800"), "surrogate"),
        (encoded(occurred_at="2026-01-01"), "no RFC 3339"),
        (encoded(occurred_at="2026-01-01T00:00:00"), "no RFC 3339"),
        (encoded(occurred_at="2026-02-30T00:00:00Z"), "no time"),
        (encoded(occurred_at="2026-01-01T24:00:00Z"), "no RFC 3339"),
        (encoded(occurred_at="yesterday"), "no RFC 3339"),
        (encoded(occurred_at=1767225600), "occurred_at is 1767225600"),
        (encoded(note="x" * ((1 << 20) - len(encoded(note="")) + 1)), "over 1 MiB"),
        (encoded(event_id="x" * ((1 << 14) + 1)), "more than 16 KiB"),
        (encoded(to_account="é" * (1 << 13) + "x"), "more than 16 KiB"),
        (encoded(currency="EURO"), "three letters"),
        (encoded(currency="EUR\n"), "three letters"),
        (encoded()[:-1] + b', "deep": ' + b"[" * 40 + b"]" * 40 + b"}", "nested"),
        (encoded()[:-1] + b', "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (encoded().replace(b": 5", b": " + b"1" * 5000), "64 bits"),
    ],
)
def test_bad_transfers(value: bytes | None, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        values.transfer(value)


def nested(levels: int) -> bytes:
    """A good transfer of so many levels, the outermost object being the first."""
    return encoded()[:-1] + b', "deep": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_depth_counts_levels_not_brackets() -> None:
    assert values.transfer(nested(32)).amount == 5
    with pytest.raises(Malformed, match="nested"):
        values.transfer(nested(33))
    assert values.transfer(encoded(note=[[], {}] * 50, text="[" * 100)).amount == 5


def test_times_are_instants() -> None:
    assert values.microseconds("1970-01-01T00:00:01.5Z") == 1_500_000
    assert values.microseconds("1969-12-31T23:59:59.999999Z") == -1
    assert values.microseconds("2016-12-31T23:59:60Z") == values.microseconds("2016-12-31T23:59:59Z")
    assert values.microseconds("2026-01-01T00:00:00.1234567Z") == values.microseconds("2026-01-01T00:00:00.123456Z")


def test_records_of_the_service() -> None:
    leg = GOOD | {"transfer_id": "t1", "leg": "middle", "account": "a", "counterparty": "b"}
    with pytest.raises(Malformed, match="not debit or credit"):
        values.leg(json.dumps(leg).encode())
    upsert: dict[str, Any] = {
        "account": "a", "balances": {"EUR": 1}, "entries": 1, "transfer_id": "t", "leg": "debit",
        "updated_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    assert values.upsert(json.dumps(upsert).encode()).balances == {"EUR": 1}
    for change, reason in (
        ({"balances": {"EUR": 1.0}}, "not an integer"),
        ({"leg": "x"}, "not debit"),
        ({"balances": []}, "balances is"),
    ):
        with pytest.raises(Malformed, match=reason):
            values.upsert(json.dumps(upsert | change).encode())
    with pytest.raises(Malformed, match="reason is missing"):
        values.refusal(encoded(transfer_id="t"))
