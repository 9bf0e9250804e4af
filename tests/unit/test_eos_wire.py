"""The bytes of the messages: against Kafka's field order, and the hand-written Produce against its own schema."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest

from streamapp.client import wire
from streamapp.eos.protocol import (
    NO_IDENTITY,
    EndTxn,
    Features,
    InitProducerId,
    Membership,
    OffsetFetch,
    Produce,
    Produced,
    ProducerIdentity,
    TxnOffsetCommit,
)
from streamapp.types import Partition

A0, A1, B0 = Partition("a", 0), Partition("a", 1), Partition("b", 0)


def prepared(request: Any) -> Any:
    """The request as a connection would send it to a broker that knows every version."""
    return request.prepare({request.API_KEY: (0, 99)})


@pytest.mark.parametrize("batches", [{}, {A0: b"records"}, {A0: b"1" * 300, B0: bytearray(b"2" * 20_000), A1: b"3"}])
def test_a_produce_is_encoded_as_its_schema_says(batches: dict[Partition, bytes]) -> None:
    struct = prepared(wire.ProduceRequest(Produce("app-1", 4000, batches)))
    by_schema = struct.SCHEMA.encode([getattr(struct, name) for name in struct.SCHEMA.names])
    assert struct.encode() == by_schema
    _, acks, timeout_ms, topics, _ = struct.SCHEMA.decode(BytesIO(by_schema))
    assert (acks, timeout_ms) == (-1, 4000)
    assert {
        Partition(topic, number): records for topic, partitions, _ in topics for number, records, _ in partitions
    } == {partition: bytes(records) for partition, records in batches.items()}


@pytest.mark.parametrize(
    ("request_", "key", "version", "body"),
    [
        (
            wire.InitProducerIdRequest(InitProducerId("t", 10_000, NO_IDENTITY)),
            22,
            5,
            b"\x02t" + b"\x00\x00\x27\x10" + b"\xff" * 8 + b"\xff\xff" + b"\0",
        ),
        (wire.EndTxnRequest(EndTxn("t", ProducerIdentity(5, 2), True)), 26, 5, b"\x02t" + b"\0" * 7 + b"\5\0\2\1\0"),
        (wire.EndTxnRequest(EndTxn("t", ProducerIdentity(5, 2), False)), 26, 5, b"\x02t" + b"\0" * 7 + b"\5\0\2\0\0"),
        (
            wire.TxnOffsetCommitRequest(TxnOffsetCommit("t", ProducerIdentity(5, 2), Membership("g", 3, "m"), {A0: 9})),
            28,
            5,
            b"\x02t\x02g" + b"\0" * 7 + b"\5\0\2" + b"\0\0\0\3" + b"\x02m" + b"\0"
            b"\x02\x02a\x02" + b"\0" * 4 + b"\0" * 7 + b"\x09" + b"\xff" * 4 + b"\x01\0\0\0",
        ),
        (
            wire.OffsetFetchRequest(OffsetFetch("g", (A0, A1), require_stable=True)),
            9,
            7,
            b"\x02g\x02\x02a\x03" + b"\0\0\0\0\0\0\0\1" + b"\0\1\0",
        ),
        (wire.ApiVersionsRequest(), 18, 3, b"\x0astreamapp\x021\0"),
    ],
)
def test_a_request_has_kafkas_fields_in_kafkas_order(request_: Any, key: int, version: int, body: bytes) -> None:
    struct = prepared(request_)
    assert (key, version, True) == (struct.API_KEY, struct.API_VERSION, struct.FLEXIBLE_VERSION)
    assert struct.encode() == body


def test_a_membership_with_an_instance_carries_it() -> None:
    seat = Membership("g", 3, "m", "one")
    struct = prepared(wire.TxnOffsetCommitRequest(TxnOffsetCommit("t", ProducerIdentity(5, 2), seat, {A0: 9})))
    assert struct.group_instance_id == "one"


def test_answers_are_read_with_the_records_that_were_refused() -> None:
    body = (
        b"\x02\x02a\x02" + b"\0\0\0\1" + b"\0\x57" + b"\xff" * 8 + b"\xff" * 8 + b"\0" * 8
        # record errors: two, one with and one without a reason; then the batch's own message
        + b"\x03" + b"\0\0\0\4" + b"\x04why" + b"\0" + b"\0\0\0\6" + b"\0" + b"\0"
        + b"\x05text" + b"\0" + b"\0" + b"\0\0\0\0" + b"\0"
    )  # fmt: skip
    response = wire.ProduceResponse_v12.decode(BytesIO(body))
    assert wire.produce_answer(response) == {A1: Produced(87, -1, -1, ((4, "why"), (6, "")), "text")}


def test_finalized_features_are_a_tagged_field() -> None:
    field = b"\x03" + b"\x08feature\0\5\0\1\0" + b"\x14transaction.version\0\2\0\0\0"
    assert wire.features_answer(SimpleNamespace(tags={2: field})) == Features(2)
    assert wire.features_answer(SimpleNamespace(tags={})) == Features(0)
