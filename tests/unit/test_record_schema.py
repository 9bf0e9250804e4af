"""What a topic's reader makes of a fetched record, whose append time is in milliseconds as the broker gives it."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import pytest

from streamapp.codec import Codec
from streamapp.driver.streams.schema import RecordSchema
from streamapp.engine.record import Record
from streamapp.eos.partitioner import partition_of
from streamapp.errors import RecordError
from streamapp.records import Transfer

NOON_MS = 1_769_860_800_000
PARTITIONS = 4


class Keyless(msgspec.Struct, frozen=True):
    """A record whose key says nothing about it."""

    KEY: ClassVar[str | None] = None
    name: str


def transfer(occurred_at: str = "2026-01-31T12:00:00Z", **changed: Any) -> Record:
    value = {
        "event_id": "1",
        "from_account": "ann",
        "to_account": "bob",
        "amount": 5,
        "currency": "USD",
        "occurred_at": occurred_at,
    }
    return record(msgspec.json.encode(value), **changed)


def record(value: bytes, key: bytes | None = b"ann", partition: int | None = None) -> Record:
    number = partition if partition is not None else partition_of(key or b"", PARTITIONS)
    return Record("transfer", number, 0, NOON_MS, key, value)


def read(fetched: Any, record_type: Any = Transfer) -> tuple[Any, Any]:
    return RecordSchema(Codec(record_type)).reader(PARTITIONS).read(fetched)


def test_a_good_record_is_its_key_and_its_value() -> None:
    key, value = read(transfer())
    assert (key, value.to_account) == ("ann", "bob")


@pytest.mark.parametrize(
    ("fetched", "kind"),
    [
        (transfer(occurred_at="2026-01-31T13:00:01Z"), "TooFarAhead"),
        (transfer(key=b"bob"), "KeyMismatch"),
        (transfer(key=None), "KeyMismatch"),
        (transfer(key=b"\xff"), "KeyMismatch"),
        (transfer(partition=(partition_of(b"ann", PARTITIONS) + 1) % PARTITIONS), "WrongPartition"),
    ],
)
def test_a_bad_record_says_of_which_kind_it_is(fetched: Any, kind: str) -> None:
    with pytest.raises(RecordError) as caught:
        read(fetched)
    assert caught.value.kind == kind


def test_an_hour_ahead_of_the_append_time_is_allowed() -> None:
    assert read(transfer(occurred_at="2026-01-31T13:00:00Z"))[0] == "ann"


def test_a_key_that_no_field_says_may_be_any_text_or_none() -> None:
    assert read(record(b'{"name":"x"}', b"zo\xc3\xab"), Keyless) == ("zoë", Keyless("x"))
    assert read(record(b'{"name":"x"}', None), Keyless) == (None, Keyless("x"))
    with pytest.raises(RecordError, match="UTF-8"):
        read(record(b'{"name":"x"}', b"\xff"), Keyless)
