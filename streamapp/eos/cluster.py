"""The seam between the engine and Kafka: the few calls it makes, so that a broker in memory can take its place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from streamapp.eos.protocol import (
    EndTxn,
    EndTxnAnswer,
    EpochEnds,
    Features,
    GroupDescription,
    InitProducerId,
    InitProducerIdAnswer,
    ListOffsets,
    ListOffsetsAnswer,
    Membership,
    OffsetFetch,
    OffsetFetchAnswer,
    Produce,
    ProduceAnswer,
    TopicDescription,
    TxnOffsetCommit,
    TxnOffsetCommitAnswer,
)
from streamapp.types import Partition


class NoAnswer(Exception):
    """A request got no answer: it may have been carried out or not (or it never left, which looks the same).

    The caller repeats the request unchanged: same epoch, same sequences, same bytes. It never guesses. This is no
    `StreamAppError`: it must not leave the engine.
    """


class Cluster(Protocol):
    """A Kafka cluster: each call goes to the node in charge, once, and is answered or raises `NoAnswer`.

    An implementation keeps the routing to itself. It looks up leaders and coordinators, forgets what an answer (3, 5,
    6, 15, 16, ...) or a lost connection shows to be stale, and looks it up again at the *next* call. It never repeats
    a call by itself, because only the caller knows whether that is right. When the node in charge cannot be found,
    the answer carries the error of the look-up (such as 15, 53 or 30). Cancelling a call is safe and leaves its
    outcome unknown.
    """

    async def features(self) -> Features:
        """The finalized features, asked of a broker each time."""

    async def describe_topic(self, topic: str) -> TopicDescription:
        """Shape and limits of a topic, asked of the broker each time; never creates one (error 3 if there is none)."""

    async def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        """The id of each topic, asked of a broker each time; one that does not exist now is left out."""

    async def epoch_ends(self, epochs: Mapping[Partition, int]) -> EpochEnds:
        """To the leaders: where the records of these leader epochs end; without a leader: error 5."""

    async def leaders(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """The node that leads each partition, refreshed where known to be stale; without a leader: left out."""

    async def init_producer_id(self, request: InitProducerId) -> InitProducerIdAnswer:
        """To the transaction coordinator."""

    async def produce(self, node: int, request: Produce) -> ProduceAnswer:
        """To this node, which `leaders()` named."""

    async def commit_offsets(self, request: TxnOffsetCommit) -> TxnOffsetCommitAnswer:
        """To the group's coordinator."""

    async def end_transaction(self, request: EndTxn) -> EndTxnAnswer:
        """To the transaction coordinator."""

    async def fetch_offsets(self, request: OffsetFetch) -> OffsetFetchAnswer:
        """To the group's coordinator."""

    async def list_offsets(self, request: ListOffsets) -> ListOffsetsAnswer:
        """To the leaders, all at once; a partition without a leader is answered with error 5."""

    async def describe_group(self, group: str) -> GroupDescription:
        """To the group's coordinator. While the group is rebalanced nobody owns anything."""

    async def leave_group(self, membership: Membership) -> int:
        """To the group's coordinator: give this seat back; the error code. Nobody else's seat is touched by it."""

    async def close(self) -> None:
        """Close every connection. May be called again."""
