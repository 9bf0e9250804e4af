"""Seeded records: good ones, repeats, mutations of good ones, odd fields, and bytes of no meaning."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aiokafka.partitioner import murmur2

#: What a model says must become of a record; None: it must become something, and the judge accounts for it.
PROCESSED = "processed"
_DAY_MS = 86_400_000
#: Of all records.
_GOOD, _REPEATED, _MUTATED, _ODD_JSON = 0.45, 0.08, 0.25, 0.12
_ODD_TEXT = [
    rb"\ud83d",
    rb"\u0000",
    rb"\ud83d\ude00",
    b"\xc3\xa4",
    b"\xff",
    b"\x00",
    rb"\n",
    b"\xf0\x9f\x98\x80",
    b"%s{}",
]
_ODD_NUMBERS = [
    b"0", b"-0", b"-1", b"1.5", b"1e3", b"1E400", b"-1e-400", b"9223372036854775807", b"9223372036854775808",
    b"-9223372036854775808", b"-9223372036854775809", b"18446744073709551615", b"18446744073709551616",
    b"1180591620717411303424", b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b"0x10", b"1_000",
]  # fmt: skip
_ODD_TIMES = [
    "", "now", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+14:00",
    "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
    "2026-06-30T23:59:60Z", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01t00:00:00z",
    "2026-01-01T00:00:00.123456789Z",
]  # fmt: skip
_ODD_STAMPS = [-1, 0, 1, -2, 2**31, 2**43, 2**62, 2**63 - 1]


def rfc3339(seconds: float) -> str:
    """An instant as the records have it."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


class Fuzzed(NamedTuple):
    """A record to be sent, and what must become of it where that is known."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    #: The sender's stamp in milliseconds; -1: none.
    timestamp_ms: int
    expected: str | None


#: Makes a good value and its key, and says what must become of it (`PROCESSED`), if that is known.
Make = Callable[[random.Random, str, int], tuple[str, dict[str, Any], str | None]]


class Generator:
    """An endless source of records: the same for the same seed, partition count, time and makers by topic."""

    def __init__(self, seed: int, partitions: int, now_ms: int, makers: Mapping[str, Make]) -> None:
        self._random = random.Random(seed)
        self._partitions = partitions
        self._now_ms = now_ms
        self._number = 0
        self._sent: dict[str, list[Fuzzed]] = {}
        self._makers = makers
        self._topics = [*makers]

    def records(self, count: int) -> Iterator[Fuzzed]:
        """So many more of them."""
        for _ in range(count):
            yield self._one()

    def _one(self) -> Fuzzed:
        topic = self._random.choice(self._topics)
        sent = self._sent.setdefault(topic, [])
        chance = self._random.random()
        if chance < _REPEATED and sent:
            return self._random.choice(sent)._replace(expected=None)
        self._number += 1
        key, value, expected = self._makers[topic](self._random, f"id-{self._number}", self._now_ms)
        good = json.dumps(value, ensure_ascii=self._random.random() < 0.5).encode("utf-8", "surrogatepass")
        if chance < _REPEATED + _GOOD:
            record = self._record(topic, key.encode(), good, expected)
            sent.append(record)
            del sent[:-500]
            return record
        if chance < _REPEATED + _GOOD + _MUTATED:
            return self._odd(topic, key.encode(), self._mutated(good))
        if chance < _REPEATED + _GOOD + _MUTATED + _ODD_JSON:
            return self._odd(topic, key.encode(), self._with_odd_field(value))
        return self._odd(topic, key.encode(), self._noise())

    # --- what is wrong with the others

    def _mutated(self, good: bytes) -> bytes:
        """A few bytes of a good value changed, taken out, repeated or put in."""
        value = bytearray(good)
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randrange(len(value) + 1)
            end = min(len(value), at + self._random.randint(1, 12))
            change = self._random.randrange(6)
            if change == 0:
                value[at:end] = b""
            elif change == 1:
                value[at:at] = value[at:end]
            elif change == 2:
                value[at:end] = self._random.randbytes(end - at)
            elif change == 3:
                value[at:at] = self._random.choice(_ODD_TEXT)
            elif change == 4:
                value[at:at] = self._random.choice([b'"', b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b"\\"])
            else:
                del value[at:]
            if not value:
                break
        return bytes(value)

    def _with_odd_field(self, value: dict[str, Any]) -> bytes:
        """A good value with one field of another kind, twice, missing, or one more that nobody declared."""
        fields = [(json.dumps(name).encode(), json.dumps(field).encode()) for name, field in value.items()]
        at = self._random.randrange(len(fields))
        name, _ = fields[at]
        odd = self._odd_token(0)
        change = self._random.randrange(4)
        if change == 0:
            fields[at] = (name, odd)
        elif change == 1:
            fields.insert(self._random.randrange(len(fields) + 1), (name, odd))
        elif change == 2:
            del fields[at]
        else:
            fields.append((self._random.choice([b'"more"', rb'"\ud83d"', b'""', b'"a\\u0000"']), odd))
        return b"{" + b",".join(name + b":" + field for name, field in fields) + b"}"

    def _odd_token(self, depth: int) -> bytes:
        choice = self._random.randrange(9)
        if choice == 0:
            return self._random.choice(_ODD_NUMBERS)
        if choice == 1:
            return b'"' + self._random.choice(_ODD_TEXT) + b'"'
        if choice == 2:
            return json.dumps(self._random.choice(_ODD_TIMES)).encode()
        if choice == 3:
            return self._random.choice([b"null", b"true", b"false", b'""', b"{}", b"[]"])
        if choice == 4 and depth < 3:
            return b"[" + b",".join(self._odd_token(depth + 1) for _ in range(self._random.randint(0, 3))) + b"]"
        if choice == 5 and depth < 3:
            return b'{"a":' + self._odd_token(depth + 1) + b',"a":' + self._odd_token(depth + 1) + b"}"
        if choice == 6:
            levels = self._random.choice([30, 31, 32, 33, 64, 1500])
            return b"[" * levels + b"]" * levels
        if choice == 7:
            return b'"' + b"y" * self._random.choice([1_000, 20_000]) + b'"'
        return str(self._random.randint(-(2**66), 2**66)).encode()

    def _noise(self) -> bytes | None:
        """Bytes of no meaning, and of some other format's."""
        choice = self._random.randrange(8)
        if choice == 0:
            return None
        if choice == 1:
            return b""
        if choice == 2:
            return b"\x00\x00\x00\x00\x07" + self._random.randbytes(20)
        if choice == 3:
            return b"\xef\xbb\xbf{}"
        if choice == 4:
            return '{"id":"utf-16"}'.encode("utf-16")
        if choice == 5:
            return b"\x1f\x8b\x08" + self._random.randbytes(30)
        if choice == 6:
            return self._odd_token(0)
        return self._random.randbytes(self._random.randint(1, 200))

    # --- around the value

    def _record(self, topic: str, key: bytes | None, value: bytes | None, expected: str | None) -> Fuzzed:
        number = int(murmur2(key) & 0x7FFFFFFF) % self._partitions if key is not None else 0
        return Fuzzed(topic, number, key, value, (), -1, expected)

    def _odd(self, topic: str, key: bytes, value: bytes | None) -> Fuzzed:
        """A record of which nothing is certain: sometimes its key, partition, headers and stamp are odd, too."""
        chance = self._random.random()
        odd_key: bytes | None = key
        if chance < 0.2:
            odd_key = self._random.choice([None, b"", b"\xff\xfe", b"\x00", b"7", b"null", b'"text"', b"k" * 2000])
        record = self._record(topic, odd_key, value, None)
        if self._random.random() < 0.1 or odd_key is None:
            record = record._replace(partition=self._random.randrange(self._partitions))
        if self._random.random() < 0.2:
            record = record._replace(headers=self._headers())
        if self._random.random() < 0.2:
            record = record._replace(timestamp_ms=self._stamp())
        return record

    def _headers(self) -> tuple[tuple[str, bytes | None], ...]:
        names = ["dlt-original-topic", "dlt-original-partition", "dlt-exception-message", "", "ü", "n" * 300, "a", "a"]
        values = [None, b"", b"\xff", b"text", b"v" * 3000]
        return tuple(
            (self._random.choice(names), self._random.choice(values)) for _ in range(self._random.randint(1, 4))
        )

    def _stamp(self) -> int:
        return self._random.choice([*_ODD_STAMPS, self._now_ms - 40 * _DAY_MS, self._now_ms + _DAY_MS])
