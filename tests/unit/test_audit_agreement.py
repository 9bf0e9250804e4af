"""The service's codec and the auditor's reader, written apart, must agree on what a good transfer is.

Where they do not, one of them has misread the contract. The auditor may call a record unsettled that the service
refuses: there the contract does not decide.
"""

from __future__ import annotations

import json
import random

import pytest

from streamapp.audit import values
from streamapp.codec import Codec
from streamapp.errors import RecordError
from streamapp.records import Transfer

GOOD = {
    "event_id": "t1", "from_account": "@bank", "to_account": "émile", "amount": 5, "currency": "EUR",
    "occurred_at": "2026-01-01T00:00:00Z",
}  # fmt: skip

#: Raw JSON texts that may stand for any field's value.
TEXTS = (
    '""', '"x"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\udc00x"', '"\\u0000"', '"a\tb"', '"\\q"', "null",
    "true", "0", "-0", "5", "-5", "05", "5.0", "5e0", "1E400", "0.1", "+5", ".5", "5.", "0x5", "NaN", "Infinity",
    "-Infinity", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", "1" * 400, "1" * 5000, "[]", "{}", "[" * 31 + "]" * 31,
    "[" * 32 + "]" * 32, "[" * 33 + "]" * 33, "[" * 2000 + "]" * 2000, '{"a":' * 40 + "1" + "}" * 40, "[1,]", "[,]",
    "'x'", "// no", '"2026-01-01T00:00:00Z"', '"2026-01-01T00:00:00.5Z"', '"2026-01-01T00:00:00.123456789Z"',
    '"2026-01-01T00:00:00"', '"2026-01-01T00:00:00+00:00"', '"2026-01-01T00:00:00-00:00"',
    '"2026-01-01T02:00:00+02:00"', '"2026-01-01t00:00:00z"', '"2026-01-01 00:00:00Z"', '"2026-01-01T00:00Z"',
    '"20260101T000000Z"', '"2026-W01-4T00:00:00Z"', '"2026-01-01T24:00:00Z"', '"2026-01-01T23:59:60Z"',
    '"2026-02-29T00:00:00Z"', '"2024-02-29T00:00:00Z"', '"0000-01-01T00:00:00Z"', '"0001-01-01T00:00:00Z"',
    '"9999-12-31T23:59:59.999999Z"', '"10000-01-01T00:00:00Z"', '" 2026-01-01T00:00:00Z"', '"2026-01-01T00:00:00Z\\n"',
    '"\uff12026-01-01T00:00:00Z"',
)  # fmt: skip

#: No RFC 3339, but `datetime.fromisoformat` lets them pass.
NEARLY_TIMES = ("00:00:00.Z", "00:00:00,5Z", "00:00:00 Z", "00:00:000Z", "00:00:00+01Z")

CODEC = Codec(Transfer)


def good_for_the_service(value: bytes) -> bool:
    try:
        CODEC.key(CODEC.decode(value))
    except (RecordError, UnicodeEncodeError):
        return False
    return True


def good_for_the_auditor(value: bytes) -> bool:
    try:
        values.transfer(value)
    except values.Malformed:
        return False
    return True


def disagreement(value: bytes) -> str | None:
    service, auditor = good_for_the_service(value), good_for_the_auditor(value)
    if service == auditor or (auditor and values.unsettled(value)):
        return None
    return f"service {service}, auditor {auditor}: {value[:200]!r}"


@pytest.mark.parametrize("name", [*GOOD, "unknown"])
def test_one_odd_field(name: str) -> None:
    found = []
    for text in TEXTS:
        fields = {field: json.dumps(value) for field, value in GOOD.items()} | {name: text}
        found.append(disagreement(("{" + ",".join(f'"{field}":{raw}' for field, raw in fields.items()) + "}").encode()))
    assert not list(filter(None, found)), "\n".join(filter(None, found))


def test_bytes_changed_at_random() -> None:
    rng = random.Random(20260101)
    found = []
    for _ in range(5_000):
        value = bytearray(json.dumps(GOOD, ensure_ascii=rng.random() < 0.5).encode())
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(value.index(b"2026"))  # times are above and below, one by one
            match rng.randrange(3):
                case 0:
                    value[at] = rng.randrange(256)
                case 1:
                    del value[at]
                case _:
                    value.insert(at, rng.choice(b'{}[]",:\\u0019 \n\x00\xff'))
        found.append(disagreement(bytes(value)))
    assert not list(filter(None, found)), "\n".join(filter(None, found))


@pytest.mark.parametrize(
    "time",
    NEARLY_TIMES,
)
def test_nearly_a_time(time: str) -> None:
    assert disagreement(json.dumps(GOOD | {"occurred_at": f"2026-01-01T{time}"}).encode()) is None
