"""What the engine says to a Kafka cluster and what it hears back: typed messages, no bytes and no sockets.

They mirror the versions of Kafka's own messages that carry transaction protocol v2 (KIP-890): InitProducerId v5,
Produce v12, TxnOffsetCommit v5, EndTxn v5, OffsetFetch v7 (KIP-447). `client/wire.py` gives them their bytes,
`client/cluster.py` sends them to a real cluster, and the test kit's in-memory broker answers the same ones, so
that the code between (producer, commit, fencing, recovery) cannot tell which it speaks to.

An answer carries Kafka's error code as it came (`Code` names those the engine knows; others stay plain numbers).
What a code means for the caller is said in one table, `eos/remedies.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from streamapp.types import Partition


class Code(IntEnum):
    """Kafka's error codes the engine knows by name (org.apache.kafka.common.protocol.Errors)."""

    UNKNOWN_SERVER_ERROR = -1
    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    REPLICA_NOT_AVAILABLE = 9
    MESSAGE_TOO_LARGE = 10
    NETWORK_EXCEPTION = 13
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    INVALID_TOPIC = 17
    RECORD_LIST_TOO_LARGE = 18
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    ILLEGAL_GENERATION = 22
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    REBALANCE_IN_PROGRESS = 27
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_VERSION = 35
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    DUPLICATE_SEQUENCE_NUMBER = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    INVALID_TRANSACTION_TIMEOUT = 50
    CONCURRENT_TRANSACTIONS = 51
    TRANSACTION_COORDINATOR_FENCED = 52
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    KAFKA_STORAGE_ERROR = 56
    UNKNOWN_PRODUCER_ID = 59
    UNKNOWN_LEADER_EPOCH = 75
    FENCED_LEADER_EPOCH = 74
    OFFSET_NOT_AVAILABLE = 78
    FENCED_INSTANCE_ID = 82
    INVALID_RECORD = 87
    UNSTABLE_OFFSET_COMMIT = 88
    THROTTLING_QUOTA_EXCEEDED = 89
    PRODUCER_FENCED = 90
    UNKNOWN_TOPIC_ID = 100
    TRANSACTION_ABORTABLE = 120


class ProducerIdentity(NamedTuple):
    """A producer as the transaction coordinator knows it. On protocol v2 every transaction has its own epoch."""

    producer_id: int
    epoch: int

    def __str__(self) -> str:
        return f"producer {self.producer_id} epoch {self.epoch}"


#: What a process sends that has no identity yet: the coordinator gives one and fences every older holder.
NO_IDENTITY = ProducerIdentity(-1, -1)


class Membership(NamedTuple):
    """A member's seat in its consumer group, as it was when its partitions were assigned.

    A snapshot, never a live view: aiokafka resets its own to (-1, ""), for which the broker skips the check.
    """

    group: str
    generation: int
    member_id: str
    instance_id: str | None = None

    def __str__(self) -> str:
        return f"{self.member_id} of group {self.group}, generation {self.generation}"


class Features(NamedTuple):
    """The cluster's finalized features that matter (ApiVersions v3). 0: the feature is not finalized."""

    transaction_version: int


class GroupMember(NamedTuple):
    """A member of a consumer group, as the coordinator describes it."""

    #: What its assignor said of it when it joined.
    said: bytes
    owned: frozenset[Partition]


class GroupDescription(NamedTuple):
    """A consumer group at one instant. Only in the state `Stable` do its members have what they own."""

    error: int
    state: str
    members: tuple[GroupMember, ...]


class TopicDescription(NamedTuple):
    """A topic's shape and limits. With an `error` other than 0 the rest means nothing."""

    name: str
    error: int = Code.NONE
    partition_count: int = 0
    #: Largest record batch the broker takes, in bytes after compression (`max.message.bytes`).
    max_message_bytes: int = 1_048_588
    #: `cleanup.policy` contains `compact`: a record without a key would be refused (error 87).
    compacted: bool = False
    #: `message.timestamp.type=LogAppendTime`: the broker's time replaces the record's, so no timestamp is refused.
    append_time: bool = False
    #: How far from the broker's clock a record's own timestamp may be, in ms; beyond it the batch is refused (32).
    timestamp_before_max_ms: int = 2**63 - 1
    timestamp_after_max_ms: int = 2**63 - 1
    #: Kafka's own text of it: another topic of the same name has another one (KIP-516).
    topic_id: str = ""
    #: Of each partition, by its number: counts up with each election; -1 where it is not known.
    leader_epochs: tuple[int, ...] = ()


class InitProducerId(NamedTuple):
    """Ask for an identity (v5). With the own identity it is KIP-360's question: 0 a new epoch, 90 someone is newer."""

    transactional_id: str
    transaction_timeout_ms: int
    identity: ProducerIdentity = NO_IDENTITY


class InitProducerIdAnswer(NamedTuple):
    error: int
    identity: ProducerIdentity = NO_IDENTITY


class Produce(NamedTuple):
    """Append record batches (magic 2), one a partition, all led by the same node (v12, acks=all).

    v12 adds the partitions to the transaction by itself. The epoch and the sequence are inside the batches.
    """

    transactional_id: str | None
    timeout_ms: int
    batches: Mapping[Partition, bytes]


class Produced(NamedTuple):
    """The answer for one partition."""

    error: int
    base_offset: int = -1
    append_time_ms: int = -1
    #: (index in the batch, reason) of each record the broker refused, if it says so (KIP-467).
    record_errors: tuple[tuple[int, str], ...] = ()
    message: str | None = None


#: One answer a partition; a partition that is missing was not answered, which is a defect of the cluster.
ProduceAnswer = Mapping[Partition, Produced]


class TxnOffsetCommit(NamedTuple):
    """Put consumed offsets into the transaction, checked against the membership (v5, KIP-447)."""

    transactional_id: str
    identity: ProducerIdentity
    membership: Membership
    #: The next offset to read of each input partition.
    offsets: Mapping[Partition, int]


#: Error code a partition.
TxnOffsetCommitAnswer = Mapping[Partition, int]


class OffsetCommit(NamedTuple):
    """Commit consumed offsets outside of any transaction (at least once), checked against the membership."""

    membership: Membership
    offsets: Mapping[Partition, int]


#: Error code a partition.
OffsetCommitAnswer = Mapping[Partition, int]


class EndTxn(NamedTuple):
    """End the transaction (v5). The answer has the identity of the next transaction."""

    transactional_id: str
    identity: ProducerIdentity
    committed: bool


class EndTxnAnswer(NamedTuple):
    error: int
    #: Epoch one higher, or a new producer id with epoch 0 when the epochs are used up.
    identity: ProducerIdentity = NO_IDENTITY


class OffsetFetch(NamedTuple):
    """Read a group's committed offsets (v7). `require_stable`: 88 while a transaction on them is undecided."""

    group: str
    partitions: tuple[Partition, ...]
    require_stable: bool = True


class CommittedOffset(NamedTuple):
    error: int
    #: -1: nothing committed yet.
    offset: int = -1


class OffsetFetchAnswer(NamedTuple):
    error: int
    offsets: Mapping[Partition, CommittedOffset]


class EpochEnd(NamedTuple):
    """Where the records of a leader epoch end in a log; -1 where the leader does not know (KIP-320)."""

    error: int
    offset: int = -1


#: One answer a partition.
EpochEnds = Mapping[Partition, EpochEnd]


class OffsetOf(IntEnum):
    """Which end of a partition `ListOffsets` asks for (the first two are also Kafka's timestamps on the wire)."""

    EARLIEST = -2
    HIGH_WATERMARK = -1
    #: Below it no transaction is open: the end for a read_committed reader.
    LAST_STABLE = 0
    #: The record appended last, with its time (KIP-734); -1 in an empty partition.
    NEWEST = -3


class ListOffsets(NamedTuple):
    """Ask the leaders for one end of partitions (v2 has the isolation level)."""

    partitions: tuple[Partition, ...]
    which: OffsetOf


class ListedOffset(NamedTuple):
    error: int
    offset: int = -1
    #: Append time of the record at that offset, milliseconds; only `NEWEST` has one.
    timestamp: int = -1


ListOffsetsAnswer = Mapping[Partition, ListedOffset]
