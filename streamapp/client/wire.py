"""The bytes of the messages in `eos/protocol.py`, for the versions aiokafka 0.14 lacks.

aiokafka's own schema types describe the fields, its connections choose the version and frame the request. Only one
version of each message is spoken: the one that carries what the engine needs, so a broker without it is refused.
Field order is Kafka's (clients/src/main/resources/common/message/*.json); all of these are flexible versions, which
end every structure with tagged fields. aiokafka writes tagged fields without their size, so only empty ones are sent.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping
from io import BytesIO
from typing import Any

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
    UnsignedVarInt32,
)

from streamapp.eos.protocol import (
    CommittedOffset,
    EndTxn,
    EndTxnAnswer,
    EpochEnd,
    EpochEnds,
    Features,
    InitProducerId,
    InitProducerIdAnswer,
    OffsetFetch,
    OffsetFetchAnswer,
    Produce,
    ProduceAnswer,
    Produced,
    ProducerIdentity,
    TxnOffsetCommit,
    TxnOffsetCommitAnswer,
)
from streamapp.types import Partition

_TAGS = ("tags", TaggedFields)
_TEXT = CompactString("utf-8")
_NO_TAGS: dict[int, bytes] = {}
_ALL_IN_SYNC = -1


def _of_partitions(*fields: tuple[str, Any]) -> tuple[str, Any]:
    """The part of a message that all of these have: topics by name, and of each its partitions with these fields."""
    return "topics", CompactArray(("name", _TEXT), ("partitions", CompactArray(*fields, _TAGS)), _TAGS)


def _by_topic(rows: Iterable[tuple[Partition, tuple[Any, ...]]]) -> list[tuple[str, list[tuple[Any, ...]], Any]]:
    """Rows of one partition each as Kafka nests them: topics, then their partitions."""
    topics: dict[str, list[tuple[Any, ...]]] = {}
    for (topic, number), fields in rows:
        topics.setdefault(topic, []).append((number, *fields))
    return [(topic, partitions, _NO_TAGS) for topic, partitions in topics.items()]


class InitProducerIdResponse_v5(Response):  # noqa: N801 - named as aiokafka names its versions
    API_KEY = 22
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _TAGS,
    )


class InitProducerIdRequest_v5(RequestStruct):  # noqa: N801
    API_KEY = 22
    API_VERSION = 5
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = InitProducerIdResponse_v5
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _TAGS,
    )


class InitProducerIdRequest(Request[InitProducerIdRequest_v5]):
    API_KEY = 22

    def __init__(self, message: InitProducerId) -> None:
        self._message = message

    def build(self, request_struct_class: Any) -> Any:
        message = self._message
        return request_struct_class(
            message.transactional_id, message.transaction_timeout_ms, *message.identity, _NO_TAGS
        )


def init_producer_id_answer(response: Any) -> InitProducerIdAnswer:
    return InitProducerIdAnswer(response.error_code, ProducerIdentity(response.producer_id, response.producer_epoch))


class ProduceResponse_v12(Response):  # noqa: N801
    API_KEY = 0
    API_VERSION = 12
    SCHEMA = Schema(
        _of_partitions(
            ("partition", Int32),
            ("error_code", Int16),
            ("base_offset", Int64),
            ("log_append_time_ms", Int64),
            ("log_start_offset", Int64),
            ("record_errors", CompactArray(("batch_index", Int32), ("message", _TEXT), _TAGS)),
            ("error_message", _TEXT),
        ),
        ("throttle_time_ms", Int32),
        _TAGS,
    )


class ProduceRequest_v12(RequestStruct):  # noqa: N801
    """v12: the client speaks transaction protocol v2, so the broker adds the partitions to the transaction."""

    API_KEY = 0
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ProduceResponse_v12
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("acks", Int16),
        ("timeout_ms", Int32),
        _of_partitions(("partition", Int32), ("records", CompactBytes)),
        _TAGS,
    )

    def encode(self) -> bytes:
        """As the schema says, but every batch is copied once: level by level it took 4 ms for 2 MB of records."""
        parts = [_TEXT.encode(self.transactional_id), Int16.encode(self.acks), Int32.encode(self.timeout_ms)]
        parts.append(UnsignedVarInt32.encode(len(self.topics) + 1))
        for name, partitions, tags in self.topics:
            parts += _TEXT.encode(name), UnsignedVarInt32.encode(len(partitions) + 1)
            for number, records, partition_tags in partitions:
                parts += Int32.encode(number), UnsignedVarInt32.encode(len(records) + 1), records
                parts.append(TaggedFields.encode(partition_tags))
            parts.append(TaggedFields.encode(tags))
        parts.append(TaggedFields.encode(self.tags))
        return b"".join(parts)


class ProduceRequest(Request[ProduceRequest_v12]):
    API_KEY = 0

    def __init__(self, message: Produce) -> None:
        self._message = message

    def build(self, request_struct_class: Any) -> Any:
        message = self._message
        topics = _by_topic((partition, (records, _NO_TAGS)) for partition, records in message.batches.items())
        return request_struct_class(message.transactional_id, _ALL_IN_SYNC, message.timeout_ms, topics, _NO_TAGS)


def produce_answer(response: Any) -> ProduceAnswer:
    return {
        Partition(topic, number): Produced(
            code, base, append_time, tuple((index, why or "") for index, why, _ in record_errors), message
        )
        for topic, partitions, _ in response.topics
        for number, code, base, append_time, _, record_errors, message, _ in partitions
    }


class TxnOffsetCommitResponse_v5(Response):  # noqa: N801
    API_KEY = 28
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        _of_partitions(("partition", Int32), ("error_code", Int16)),
        _TAGS,
    )


class TxnOffsetCommitRequest_v5(RequestStruct):  # noqa: N801
    """v3 brought the membership (KIP-447), v5 adds the group's offsets partition to the transaction (KIP-890)."""

    API_KEY = 28
    API_VERSION = 5
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TxnOffsetCommitResponse_v5
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("group_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
        _of_partitions(("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _TEXT)),
        _TAGS,
    )


class TxnOffsetCommitRequest(Request[TxnOffsetCommitRequest_v5]):
    API_KEY = 28

    def __init__(self, message: TxnOffsetCommit) -> None:
        self._message = message

    def build(self, request_struct_class: Any) -> Any:
        message, seat = self._message, self._message.membership
        topics = _by_topic((partition, (offset, -1, "", _NO_TAGS)) for partition, offset in message.offsets.items())
        return request_struct_class(
            message.transactional_id,
            seat.group,
            *message.identity,
            seat.generation,
            seat.member_id,
            seat.instance_id,
            topics,
            _NO_TAGS,
        )


def txn_offset_commit_answer(response: Any) -> TxnOffsetCommitAnswer:
    return {
        Partition(topic, number): code for topic, partitions, _ in response.topics for number, code, _ in partitions
    }


class EndTxnResponse_v5(Response):  # noqa: N801
    API_KEY = 26
    API_VERSION = 5
    SCHEMA = InitProducerIdResponse_v5.SCHEMA


class EndTxnRequest_v5(RequestStruct):  # noqa: N801
    API_KEY = 26
    API_VERSION = 5
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = EndTxnResponse_v5
    SCHEMA = Schema(
        ("transactional_id", _TEXT), ("producer_id", Int64), ("producer_epoch", Int16), ("committed", Boolean), _TAGS
    )


class EndTxnRequest(Request[EndTxnRequest_v5]):
    API_KEY = 26

    def __init__(self, message: EndTxn) -> None:
        self._message = message

    def build(self, request_struct_class: Any) -> Any:
        message = self._message
        return request_struct_class(message.transactional_id, *message.identity, message.committed, _NO_TAGS)


def end_txn_answer(response: Any) -> EndTxnAnswer:
    return EndTxnAnswer(response.error_code, ProducerIdentity(response.producer_id, response.producer_epoch))


class OffsetFetchResponse_v7(Response):  # noqa: N801
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        _of_partitions(
            ("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _TEXT), ("error_code", Int16)
        ),
        ("error_code", Int16),
        _TAGS,
    )


class OffsetFetchRequest_v7(RequestStruct):  # noqa: N801
    """v7 brought `require_stable` (KIP-447): error 88 while a transaction holds undecided offsets."""

    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = OffsetFetchResponse_v7
    SCHEMA = Schema(
        ("group_id", _TEXT),
        ("topics", CompactArray(("name", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
        ("require_stable", Boolean),
        _TAGS,
    )


class OffsetFetchRequest(Request[OffsetFetchRequest_v7]):
    API_KEY = 9

    def __init__(self, message: OffsetFetch) -> None:
        self._message = message

    def build(self, request_struct_class: Any) -> Any:
        numbers: dict[str, list[int]] = {}
        for topic, number in self._message.partitions:
            numbers.setdefault(topic, []).append(number)
        topics = [(topic, listed, _NO_TAGS) for topic, listed in numbers.items()]
        return request_struct_class(self._message.group, topics, self._message.require_stable, _NO_TAGS)


def offset_fetch_answer(response: Any) -> OffsetFetchAnswer:
    offsets = {
        Partition(topic, number): CommittedOffset(code, offset)
        for topic, partitions, _ in response.topics
        for number, offset, _, _, code, _ in partitions
    }
    return OffsetFetchAnswer(response.error_code, offsets)


class ApiVersionsResponse_v3(Response):  # noqa: N801
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("api_keys", CompactArray(("api_key", Int16), ("min_version", Int16), ("max_version", Int16), _TAGS)),
        ("throttle_time_ms", Int32),
        _TAGS,
    )


class ApiVersionsRequest_v3(RequestStruct):  # noqa: N801
    """v3 answers with the cluster's finalized features as tagged field 2 (KIP-584)."""

    API_KEY = 18
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ApiVersionsResponse_v3
    SCHEMA = Schema(("client_software_name", _TEXT), ("client_software_version", _TEXT), _TAGS)

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> Any:
        """This one answer keeps the old header, so that a client can read it before it knows any version."""
        return ResponseHeader_v0.decode(read_buffer)


class ApiVersionsRequest(Request[ApiVersionsRequest_v3]):
    API_KEY = 18

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class("streamapp", "1", _NO_TAGS)


_FINALIZED_FEATURES = 2


def features_answer(response: Any) -> Features:
    return Features(_finalized(response.tags).get("transaction.version", 0))


def _finalized(tags: Mapping[int, bytes]) -> dict[str, int]:
    """Feature name -> finalized level, out of the tagged field's own bytes."""
    field = BytesIO(tags.get(_FINALIZED_FEATURES, b"\x01"))
    levels = {}
    for _ in range(UnsignedVarInt32.decode(field) - 1):
        name = _TEXT.decode(field)
        levels[name] = Int16.decode(field)
        Int16.decode(field)  # the lowest level, which says nothing about what is on
        TaggedFields.decode(field)
    return levels


class NewestOffsetResponse_v7(Response):  # noqa: N801
    API_KEY = 2
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        _of_partitions(
            ("index", Int32), ("error_code", Int16), ("timestamp", Int64), ("offset", Int64), ("leader_epoch", Int32)
        ),
        _TAGS,
    )


class NewestOffsetRequest_v7(RequestStruct):  # noqa: N801
    """ListOffsets from the version on that knows the newest record (KIP-734)."""

    API_KEY = 2
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = NewestOffsetResponse_v7
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("isolation_level", Int8),
        _of_partitions(("index", Int32), ("current_leader_epoch", Int32), ("timestamp", Int64)),
        _TAGS,
    )


class NewestOffsetRequest(Request[NewestOffsetRequest_v7]):
    API_KEY = 2

    def __init__(self, topics: Mapping[str, Iterable[tuple[int, int]]]) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        nested = [
            (topic, [(number, -1, timestamp, _NO_TAGS) for number, timestamp in partitions], _NO_TAGS)
            for topic, partitions in self._topics.items()
        ]
        return request_struct_class(-1, 0, nested, _NO_TAGS)


class _Uuid(AbstractType[str]):
    """Kafka's text of an id: 16 bytes in URL-safe base 64."""

    @classmethod
    def encode(cls, value: str) -> bytes:
        return base64.urlsafe_b64decode(value + "==")

    @classmethod
    def decode(cls, data: BytesIO) -> str:
        return base64.urlsafe_b64encode(data.read(16)).decode().rstrip("=")


_NO_ID = "A" * 22


class TopicsResponse_v12(Response):  # noqa: N801
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS)),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("index", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class TopicsRequest_v12(RequestStruct):  # noqa: N801
    """Metadata by name, with the topics' ids (v10, KIP-516) and leader epochs. Creates no topic."""

    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TopicsResponse_v12
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class TopicsRequest(Request[TopicsRequest_v12]):
    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([(_NO_ID, topic, _NO_TAGS) for topic in self._topics], False, False, _NO_TAGS)


class EpochEndsResponse_v4(Response):  # noqa: N801
    API_KEY = 23
    API_VERSION = 4
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("name", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader_epoch", Int32),
                        ("end_offset", Int64),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class EpochEndsRequest_v4(RequestStruct):  # noqa: N801
    """OffsetForLeaderEpoch (KIP-320), as a consumer asks it."""

    API_KEY = 23
    API_VERSION = 4
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = EpochEndsResponse_v4
    SCHEMA = Schema(
        ("replica_id", Int32),
        _of_partitions(("partition", Int32), ("current_leader_epoch", Int32), ("leader_epoch", Int32)),
        _TAGS,
    )


class EpochEndsRequest(Request[EpochEndsRequest_v4]):
    API_KEY = 23

    def __init__(self, epochs: Mapping[Partition, int]) -> None:
        self._epochs = epochs

    def build(self, request_struct_class: Any) -> Any:
        topics = _by_topic((partition, (-1, epoch, _NO_TAGS)) for partition, epoch in self._epochs.items())
        return request_struct_class(-1, topics, _NO_TAGS)


def epoch_ends_answer(response: Any) -> EpochEnds:
    return {
        Partition(topic, number): EpochEnd(code, offset)
        for topic, partitions, _ in response.topics
        for code, number, _, offset, _ in partitions
    }
