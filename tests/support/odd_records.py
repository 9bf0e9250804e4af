"""Odd values for topics, by seed: random bytes, good records changed a little, and JSON made of odd parts.

A generator and nothing else: whoever uses it knows what is to become of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

#: One good record of each type that the service consumes.
GOOD: Mapping[str, Mapping[str, Any]] = {
    "transfer": {
        "event_id": "t1", "from_account": "@bank", "to_account": "émile", "amount": 5, "currency": "EUR",
        "occurred_at": "2026-01-01T00:00:00Z",
    },
    "balances": {
        "event_id": "t1:credit", "transfer_id": "t1", "leg": "credit", "account": "émile", "counterparty": "@bank",
        "amount": 5, "currency": "EUR", "posting": "0-7", "occurred_at": "2026-01-01T00:00:00Z",
    },
    "payment": {
        "event_id": "p1", "event_type": "PAYMENT_REQUESTED", "order_id": "o1", "customer_id": "ann",
        "merchant_id": "shop", "amount": 5, "currency": "EUR", "occurred_at": "2026-01-01T00:00:00.5Z",
    },
    "delivery": {
        "event_id": "p1:delivery", "event_type": "DELIVERY_START", "order_id": "o1", "customer_id": "ann",
        "occurred_at": "2026-01-01T00:00:00Z",
    },
    "ad-click": {
        "event_id": "c1", "ad_id": "ad", "advertiser_id": "adv", "publisher_id": "pub", "cpc": 3,
        "occurred_at": "2026-01-01T00:00:00Z",
    },
}  # fmt: skip

#: JSON texts, and texts that are nearly JSON, that may stand for any field's value.
TEXTS = (
    '""', '"x"', '"é"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\uD83D\\uDE00"', '"😀"', '"\\ud83d"', '"\\udc00x"',
    '"\\ude00\\ud83d"', '"\\ud83d\\u0041"', '"\\ud83dx"', '"\\u0000"', '"\\u003a\\u0022"', '"a:b{[,]}"', '"\\"\\\\"',
    '"\\\\"', '"\\/"', '"a\tb"', '"\x00"', '"\x1f"', '"\x7f"', '"\u2028"', '"\ufeff"', '"\\q"', '"\\u12"', '"\\u12g4"',
    '"\\U0041"', '"', "null", "true", "false", "True", "nul", "0", "-0", "-", "5", "-5", "05", "-05", "00", "5.0",
    "5e0", "5E+0", "5e-0", "5e", "5e+", "1E400", "-1e400", "1e-400", "1e308", "1.7976931348623157e308",
    "1.7976931348623158e308", "1.7976931348623159e308", "17976931348623157" + "0" * 292, "0.1", "-0.0", "+5", ".5",
    "5.", "0x5", "1_0", "NaN", "Infinity", "-Infinity", "9223372036854775807", "9223372036854775808",
    "-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616",
    "9223372036854775808.0", "9223372036854775808e0", "1" * 19, "1" * 400, "1" * 5000, "[]", "{}", "[[]]", "[1,]",
    "[,]", "[1 2]", "[1,2,3]", "[18446744073709551616]", '[{"a":99999999999999999999}]', '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}', '{"a":1,"b":{"a":1}}', '[{"a":1},{"a":1}]', '[{"a":{"b":1,"b":2}}]', '{"":1}', '{"":1,"":2}',
    '{"a":1,}', '{a:1}', '{"a" 1}', '{1:1}', '{"\\ud83d":1}', '["\\udc00"]', "[1e400]", "[" * 30 + "]" * 30,
    "[" * 31 + "]" * 31, "[" * 32 + "]" * 32, "[" * 33 + "]" * 33, "[" * 2000 + "]" * 2000,
    '{"a":' * 31 + "1" + "}" * 31, '{"a":' * 32 + "1" + "}" * 32, "[[],[" * 10 + "]]" * 10, '"' + "[{" * 40 + '"',
    "'x'", "// no", "/**/1", "1 1", '"x" "y"', '"2026-01-01T00:00:00Z"', '"2026-01-01T00:00:00.5Z"',
    '"2026-01-01T00:00:00.123456789Z"', '"2026-01-01T00:00:00.1234567890123Z"', '"2026-01-01T00:00:00"',
    '"2026-01-01T00:00:00+00:00"', '"2026-01-01T00:00:00-00:00"', '"2026-01-01T02:00:00+02:00"',
    '"2026-01-01t00:00:00z"', '"2026-01-01 00:00:00Z"', '"2026-01-01T00:00Z"', '"20260101T000000Z"',
    '"2026-W01-4T00:00:00Z"', '"2026-01-01T24:00:00Z"', '"2026-01-01T23:59:60Z"', '"2026-01-01T11:11:60Z"',
    '"2026-01-01T11:11:61Z"', '"2026-01-01T11:60:00Z"', '"2026-02-29T00:00:00Z"', '"2024-02-29T00:00:00Z"',
    '"0000-01-01T00:00:00Z"', '"0001-01-01T00:00:00Z"', '"1969-12-31T23:59:59Z"', '"9999-12-31T23:59:59.999999Z"',
    '"10000-01-01T00:00:00Z"', '" 2026-01-01T00:00:00Z"', '"2026-01-01T00:00:00Z\\n"', '"\uff12026-01-01T00:00:00Z"',
    '"2026-01-01T00:00:00.Z"', '"2026-01-01T00:00:00,5Z"', '"2026-01-01T00:00:00 Z"', '"2026-01-01T00:00:000Z"',
    '"debit"', '"credit"', '"\\u0063redit"', '"PAYMENT_REQUESTED"', '"DELIVERY_START"', '"EUR"', '"eur"', '"EURO"',
    '"EU"', '"EU\\u0052"', '"ÉUR"', '"EUR\\n"', '"\uff25UR"', '"' + "x" * 16384 + '"', '"' + "x" * 16385 + '"',
    '"' + "é" * 8192 + '"', '"' + "é" * 8193 + '"', '"' + "\\u00e9" * 8192 + '"', '"' + "\\n" * 16384 + '"',
    '"' + "x" * 16420 + ':credit"', '"0-0"', '"3-17"', '"' + "x" * 100 + '"',
)  # fmt: skip

#: Bytes that are no UTF-8, or only just, as they may stand within a string or elsewhere.
BYTES = (
    b"\xff", b"\x80", b"\xc0\x80", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\x00", b"\x0c", b"\xc2\xa0", b"\xe2\x80\xa8",
    b"\x1f\x8b", b"\x85",
)  # fmt: skip

_ODD_NAMES = ("", "unknown", "Amount", "amount ", "\\u0061mount", "event\\u005fid", "\\ud83d", "é", "a:b", 'a\\"b', "x")
_SPACES = ("", "", "", "", " ", "\n", "\t\r\n ", "  ", "\x0b", "\u00a0")
_SPLICED = b'{}[]",:\\u0019 \n\x00\xff'


def texts(rng: random.Random, good: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a good record as JSON texts, in one of the ways to write them."""
    ascii_only = rng.random() < 0.5
    return {name: json.dumps(value, ensure_ascii=ascii_only) for name, value in good.items()}


def built(rng: random.Random, good: Mapping[str, Any]) -> bytes:
    """An object of odd parts: fields that are left out, twice, in another order, of another value, or new."""
    members = list(texts(rng, good).items())
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        at = rng.randrange(len(members) + 1)
        name = rng.choice(list(good)) if rng.random() < 0.6 else rng.choice(_ODD_NAMES)
        text = rng.choice(TEXTS)
        match rng.randrange(6):
            case 0 if members:
                members.pop(at - 1)
            case 1 if members:
                members.insert(at, rng.choice(members))
            case 2:
                rng.shuffle(members)
            case 3:
                members.insert(at, (name, text))
            case 4:
                members.insert(at, (name, composed(rng, 3)))
            case _:
                members = [(field, text if field == name else raw) for field, raw in members]
    space = rng.choice(_SPACES)
    body = f",{space}".join(f'"{name}"{space}:{rng.choice(_SPACES) if space else ""}{raw}' for name, raw in members)
    return encoded(f"{space}{{{body}}}{rng.choice(_SPACES) if space else ''}")


def extended(rng: random.Random, good: Mapping[str, Any]) -> bytes:
    """A good record with a field or two that nobody declared, whatever is in them."""
    members = list(texts(rng, good).items())
    for _ in range(rng.randrange(1, 3)):
        text = rng.choice(TEXTS) if rng.random() < 0.5 else composed(rng, 3)
        members.insert(rng.randrange(len(members) + 1), (rng.choice(_ODD_NAMES), text))
    return encoded("{" + ",".join(f'"{name}":{raw}' for name, raw in members) + "}")


def composed(rng: random.Random, depth: int) -> str:
    """JSON of odd parts, so many levels deep at most."""
    match rng.randrange(4 if depth else 1):
        case 1:
            return "[" + ",".join(composed(rng, depth - 1) for _ in range(rng.randrange(4))) + "]"
        case 2:
            names = [rng.choice(("a", "b", "c", "\\u0061", *_ODD_NAMES)) for _ in range(rng.randrange(4))]
            return "{" + ",".join(f'"{name}":{composed(rng, depth - 1)}' for name in names) + "}"
        case _:
            return rng.choice(TEXTS)


def mutated(rng: random.Random, good: Mapping[str, Any]) -> bytes:
    """A good record with a few bytes changed, left out, put in, twice, or cut off."""
    value = bytearray(encoded("{" + ",".join(f'"{name}":{raw}' for name, raw in texts(rng, good).items()) + "}"))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(value)) if value else 0
        to = min(len(value), at + rng.randrange(1, 24))
        match rng.randrange(8):
            case 0 if value:
                value[at] = rng.randrange(256)
            case 1:
                del value[at : at + 1]
            case 2:
                value.insert(at, rng.choice(_SPLICED))
            case 3:
                value[at:at] = rng.choice(BYTES)
            case 4:
                value[at:at] = value[at:to]
            case 5:
                del value[at:to]
            case 6 if value:
                value[at] ^= 1 << rng.randrange(8)
            case _:
                other = rng.randrange(len(value) + 1)
                value[at:to] = value[other : other + to - at]
    return bytes(value)


def framed(rng: random.Random, good: Mapping[str, Any]) -> bytes:
    """A good record, or an odd one, with something before or behind it."""
    inner = built(rng, good) if rng.random() < 0.3 else encoded(json.dumps(good))
    end = rng.choice((*BYTES, b" ", b"{}", b"null", b",", b"]", b"\n", b"", b"\x00\x00\x00\x00\x01"))
    return inner + end if rng.random() < 0.5 else end + inner


def noise(rng: random.Random, good: Mapping[str, Any]) -> bytes:
    """Random bytes, or a value that is no object."""
    if rng.random() < 0.5:
        return rng.randbytes(rng.randrange(40))
    return encoded(rng.choice((rng.choice(TEXTS), composed(rng, 4), "[" * 5000, '{"a":' * 5000, "")))


#: Each with its weight.
_WAYS: Mapping[Callable[[random.Random, Mapping[str, Any]], bytes], int] = {
    built: 8, extended: 6, mutated: 7, framed: 2, noise: 1,
}  # fmt: skip


def encoded(text: str) -> bytes:
    """UTF-8; half a surrogate pair becomes the bytes that are none."""
    return text.encode(errors="surrogatepass")


def odd_values(rng: random.Random, good: Mapping[str, Any]) -> Iterator[bytes]:
    """Values without end that are like this good record more or less."""
    ways, weights = list(_WAYS), list(_WAYS.values())
    while True:
        yield rng.choices(ways, weights)[0](rng, good)
