"""What each error of a broker means for a transaction: one table, and nowhere else.

The facts are those of Kafka's own clients (TransactionManager, Sender) and of KIP-360, KIP-447, KIP-588 and KIP-890;
the remedies are the engine's: nothing is retried with other bytes, nothing is guessed, and what is not in the table
is a defect that ends the worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

from streamapp.eos.protocol import Code
from streamapp.errors import TransactionAborted
from streamapp.types import Partition


class ErrorRemedy(Enum):
    """What the caller does next."""

    DONE = auto()
    #: The same request again, unchanged, after a pause: it was not carried out, or carrying it out twice is one.
    REPEAT = auto()
    #: As REPEAT, but the node was the wrong one: look the leader or coordinator up again first.
    REROUTE = auto()
    #: This transaction cannot be committed. Abort it and run the events again.
    ABORT = auto()
    #: The broker refused what the records contain. Abort, then run the interval one event a transaction.
    CONTENT = auto()
    #: The identity is stale, or the transaction ended without us: a time-out or a twin? `InitProducerId` with the
    #: own identity tells: 0 and the next identity, or 90.
    ASK = auto()
    #: The seat in the consumer group is gone, so are its partitions: abort, drop them, never retry.
    UNSEATED = auto()
    #: Rights or settings are wrong: stop and say what to change.
    CONFIGURE = auto()


#: Every code a transactional request is known to be answered with.
REMEDIES: dict[int, ErrorRemedy] = {
    Code.NONE: ErrorRemedy.DONE,
    # The broker failed within; whether the request was carried out is open, as after a time-out. Asked again it is
    # known: seen of Kafka 4.3 while a second producer took the transactional id, where the next answer was 47 or 90.
    Code.UNKNOWN_SERVER_ERROR: ErrorRemedy.REPEAT,
    Code.CORRUPT_MESSAGE: ErrorRemedy.REPEAT,
    Code.UNKNOWN_TOPIC_OR_PARTITION: ErrorRemedy.REROUTE,
    Code.LEADER_NOT_AVAILABLE: ErrorRemedy.REROUTE,
    Code.NOT_LEADER_OR_FOLLOWER: ErrorRemedy.REROUTE,
    Code.REQUEST_TIMED_OUT: ErrorRemedy.REROUTE,
    Code.REPLICA_NOT_AVAILABLE: ErrorRemedy.REROUTE,
    Code.MESSAGE_TOO_LARGE: ErrorRemedy.CONTENT,
    Code.NETWORK_EXCEPTION: ErrorRemedy.REROUTE,
    Code.COORDINATOR_LOAD_IN_PROGRESS: ErrorRemedy.REPEAT,
    Code.COORDINATOR_NOT_AVAILABLE: ErrorRemedy.REROUTE,
    Code.NOT_COORDINATOR: ErrorRemedy.REROUTE,
    Code.INVALID_TOPIC: ErrorRemedy.CONFIGURE,
    Code.RECORD_LIST_TOO_LARGE: ErrorRemedy.CONTENT,
    Code.NOT_ENOUGH_REPLICAS: ErrorRemedy.REPEAT,
    Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorRemedy.REPEAT,
    Code.ILLEGAL_GENERATION: ErrorRemedy.UNSEATED,
    Code.INVALID_GROUP_ID: ErrorRemedy.CONFIGURE,
    Code.UNKNOWN_MEMBER_ID: ErrorRemedy.UNSEATED,
    # A rebalance has begun but the seat still stands: the events run again under whatever comes of it.
    Code.REBALANCE_IN_PROGRESS: ErrorRemedy.ABORT,
    Code.TOPIC_AUTHORIZATION_FAILED: ErrorRemedy.CONFIGURE,
    Code.GROUP_AUTHORIZATION_FAILED: ErrorRemedy.CONFIGURE,
    Code.CLUSTER_AUTHORIZATION_FAILED: ErrorRemedy.CONFIGURE,
    Code.INVALID_TIMESTAMP: ErrorRemedy.CONTENT,
    Code.UNSUPPORTED_VERSION: ErrorRemedy.CONFIGURE,
    # A gap in the sequence: a batch of this epoch was lost between us and the log. The next epoch begins at 0.
    Code.OUT_OF_ORDER_SEQUENCE_NUMBER: ErrorRemedy.ABORT,
    # Appended before, so long ago that the broker no longer knows where: its offset would be a guess.
    Code.DUPLICATE_SEQUENCE_NUMBER: ErrorRemedy.ABORT,
    Code.INVALID_PRODUCER_EPOCH: ErrorRemedy.ASK,
    # The transaction is not open any more at the coordinator: it timed out or somebody newer ended it.
    Code.INVALID_TXN_STATE: ErrorRemedy.ASK,
    # The coordinator knows another producer id or, after `transactional.id.expiration.ms`, none at all.
    Code.INVALID_PRODUCER_ID_MAPPING: ErrorRemedy.ASK,
    Code.INVALID_TRANSACTION_TIMEOUT: ErrorRemedy.CONFIGURE,
    Code.CONCURRENT_TRANSACTIONS: ErrorRemedy.REPEAT,
    Code.TRANSACTION_COORDINATOR_FENCED: ErrorRemedy.REROUTE,
    Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: ErrorRemedy.CONFIGURE,
    Code.KAFKA_STORAGE_ERROR: ErrorRemedy.REROUTE,
    # The partition's leader lost what it knew of this producer; a new epoch begins its sequence again.
    Code.UNKNOWN_PRODUCER_ID: ErrorRemedy.ASK,
    Code.FENCED_LEADER_EPOCH: ErrorRemedy.REROUTE,
    Code.UNKNOWN_LEADER_EPOCH: ErrorRemedy.REROUTE,
    Code.OFFSET_NOT_AVAILABLE: ErrorRemedy.REPEAT,
    Code.FENCED_INSTANCE_ID: ErrorRemedy.UNSEATED,
    Code.INVALID_RECORD: ErrorRemedy.CONTENT,
    Code.UNSTABLE_OFFSET_COMMIT: ErrorRemedy.REPEAT,
    Code.THROTTLING_QUOTA_EXCEEDED: ErrorRemedy.REPEAT,
    Code.PRODUCER_FENCED: ErrorRemedy.ASK,
    Code.UNKNOWN_TOPIC_ID: ErrorRemedy.REROUTE,
    Code.TRANSACTION_ABORTABLE: ErrorRemedy.ABORT,
}

#: Remedies after which the same request goes out again, unchanged.
REPEATED = frozenset({ErrorRemedy.REPEAT, ErrorRemedy.REROUTE})

#: Which of several codes of one answer decides: what ends the most comes first.
_GRAVITY = (
    ErrorRemedy.ASK,
    ErrorRemedy.UNSEATED,
    ErrorRemedy.CONFIGURE,
    ErrorRemedy.CONTENT,
    ErrorRemedy.ABORT,
    ErrorRemedy.REROUTE,
    ErrorRemedy.REPEAT,
    ErrorRemedy.DONE,
)


class UnexpectedCode(RuntimeError):
    """A broker answered what no table of ours knows. A defect or a newer Kafka: the worker ends, nothing is guessed."""


class ContentRefused(TransactionAborted):
    """The broker refused a batch for what is in it. Run the interval again, one event a transaction.

    The event whose transaction then raises this again is the one to dead-letter. `record_indexes` says which records
    of the partition's batch it was, where the broker tells (KIP-467); it often does not.
    """

    def __init__(self, partition: Partition, code: int, record_indexes: tuple[int, ...], reason: str) -> None:
        self.partition = partition
        self.code = code
        self.record_indexes = record_indexes
        super().__init__(
            f"The broker refused what was written to {partition}: {named(code)}{f', {reason}' if reason else ''}. "
            "The transaction has no effect; its events run again one at a time and the one at fault is dead-lettered."
        )


def remedy(code: int) -> ErrorRemedy:
    """The remedy for a code; `UnexpectedCode` for one that is not in the table."""
    found = REMEDIES.get(code)
    if found is None:
        raise UnexpectedCode(
            f"A broker answered a transactional request with error {named(code)}. Nothing is committed."
        )
    return found


#: What to change for codes whose remedy is CONFIGURE.
_CHANGES: dict[int, str] = {
    Code.TOPIC_AUTHORIZATION_FAILED: "Allow this user Write on every topic it writes, and Read on those it reads: "
    "docs/permissions.md has the list.",
    Code.GROUP_AUTHORIZATION_FAILED: "Allow this user Read on its group: docs/permissions.md has the list.",
    Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "Allow this user Write on the transactional ids that begin with "
    "STREAMAPP_ID and '-': docs/permissions.md has the list.",
    Code.INVALID_TRANSACTION_TIMEOUT: "Set STREAMAPP_TRANSACTION_TIMEOUT to at most the brokers' "
    "transaction.max.timeout.ms.",
}


def change(code: int) -> str:
    """What a person does about a code whose remedy is CONFIGURE: one sentence."""
    return _CHANGES.get(code, "Fix it and start the worker again.")


def worst(codes: Iterable[int]) -> int:
    """The code that decides about all of them; `Code.NONE` when there is none."""
    return min(codes, key=lambda code: _GRAVITY.index(remedy(code)), default=Code.NONE)


def named(code: int) -> str:
    """A code as people search for it: number and Kafka's name."""
    try:
        return f"{int(code)} ({Code(code).name})"
    except ValueError:
        return str(code)
