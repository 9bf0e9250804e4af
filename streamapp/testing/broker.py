"""A Kafka cluster in memory: topics, the two coordinators, and what an administrator can do to them.

It answers the engine's own messages (`eos/protocol.py`) as Kafka 4.1 does; `tests/contract` holds both to one suite.
It keeps no connection and loses no message: that is `testing/cluster.py`. It needs a running event loop for its
timers only and takes its time from there, so on a virtual loop it is a function of the seed.
"""

from __future__ import annotations

import asyncio
import base64
import contextvars
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

from streamapp.client.record_batch import Content, pack
from streamapp.eos.protocol import (
    Code,
    EndTxn,
    EndTxnAnswer,
    EpochEnd,
    EpochEnds,
    Features,
    InitProducerId,
    InitProducerIdAnswer,
    ListedOffset,
    ListOffsets,
    ListOffsetsAnswer,
    OffsetCommit,
    OffsetCommitAnswer,
    OffsetFetch,
    OffsetFetchAnswer,
    OffsetOf,
    Produce,
    ProduceAnswer,
    Produced,
    ProducerIdentity,
    TopicDescription,
    TxnOffsetCommit,
    TxnOffsetCommitAnswer,
)
from streamapp.testing.clock import EPOCH_S
from streamapp.testing.groups import Group
from streamapp.testing.log import PartitionLog
from streamapp.testing.offsets import GroupOffsets
from streamapp.testing.transactions import BrokerTransaction, Target, TransactionCoordinator
from streamapp.types import Headers, Partition

# Where a record batch has its producer id and epoch, for the question to the coordinator (KIP-98).
_IDENTITY_AT = 43
#: The only node.
NODE = 0


class MemoryBroker:
    """All of a cluster that several clients share.

    `sweep_interval_s`: how often transactions that timed out are looked for. `marker_delay_s`: asked for each marker
    that is to be written; 0 writes it before `EndTxn` is answered. `first_epoch`: of every new transactional id.
    """

    def __init__(
        self,
        *,
        sweep_interval_s: float = 10.0,
        initial_rebalance_delay_s: float = 0.0,
        marker_delay_s: Callable[[], float] = lambda: 0.0,
        transaction_version: int = 2,
        first_epoch: int = 0,
    ) -> None:
        self.topics: dict[str, TopicDescription] = {}
        self.logs: dict[Partition, PartitionLog] = {}
        self.groups: dict[str, Group] = {}
        self.coordinator = TransactionCoordinator(self._write_markers, first_epoch=first_epoch)
        self.transaction_version = transaction_version
        self._sweep_interval_s = sweep_interval_s
        self._initial_rebalance_delay_s = initial_rebalance_delay_s
        self.marker_delay_s = marker_delay_s
        #: How far append times are ahead of the loop's time: a test may feed tomorrow's records without waiting.
        self.append_ahead_s = 0.0
        self._sweeping = False
        #: How often each topic was made.
        self._made: Counter[str] = Counter()

    # What an administrator and other producers do

    def create_topic(self, name: str, partition_count: int = 1, **limits: int | bool) -> TopicDescription:
        """Create a topic; `limits` are the fields of `TopicDescription`. It must not exist."""
        if name in self.topics:
            raise ValueError(f"topic {name} exists")
        self._made[name] += 1  # by name, so that the order in which topics are made decides nothing
        digest = hashlib.sha256(f"{name} {self._made[name]}".encode()).digest()
        topic_id = base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")
        topic = TopicDescription(name, partition_count=partition_count, topic_id=topic_id)
        topic = self.topics[name] = topic._replace(**limits)  # type: ignore[arg-type]
        for number in range(partition_count):
            partition = Partition(name, number)
            self.logs[partition] = PartitionLog(partition, topic)
        return topic

    def delete_topic(self, name: str) -> None:
        """Delete a topic with what it holds, and with what groups have committed on it."""
        for number in range(self.topics.pop(name).partition_count):
            del self.logs[Partition(name, number)]
            for group in self.groups.values():
                group.offsets.committed.pop(Partition(name, number), None)

    def delete_records(self, partition: Partition, before: int) -> None:
        """`kafka-delete-records`: the log begins there."""
        self.logs[partition].delete_before(before)

    def elect(self, partition: Partition, truncate_to: int | None = None, *values: bytes) -> None:
        """Another leader takes a partition over; with `truncate_to` one that lacks what lies from there on.

        `values` are written to it before anybody fetches from it.
        """
        log = self.logs[partition]
        log.is_quiet = True
        log.elect(truncate_to)
        log.is_quiet = not values
        for number, value in enumerate(values, 1):
            log.is_quiet = number < len(values)
            self.send(partition, b"k", value)
        log.is_quiet = False

    def delete_offsets(self, group: str, partitions: Collection[Partition] | None = None) -> None:
        """A group's offsets expire (KIP-211) or are deleted: those of these partitions, or all of them."""
        committed = self.group(group).offsets.committed
        for partition in list(committed) if partitions is None else partitions:
            committed.pop(partition, None)

    def reset_offset(self, group: str, partition: Partition, offset: int) -> None:
        """`kafka-consumer-groups --reset-offsets`: the group's offset is this one."""
        self.group(group).offsets.committed[partition] = offset

    def send(
        self,
        partition: Partition,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None = None,
        headers: Headers = (),
    ) -> Produced:
        """Write one record outside any transaction, as a producer of input does; by default it is stamped now."""
        now_ms = self.append_ms()
        content: Content = (key, value, now_ms if timestamp_ms is None else timestamp_ms, headers)
        return self.logs[partition].append(pack([content]), now_ms)

    def now_ms(self) -> int:
        """The broker's clock."""
        return int((EPOCH_S + asyncio.get_running_loop().time()) * 1000)

    def append_ms(self) -> int:
        """The time that an appended record gets."""
        return self.now_ms() + int(self.append_ahead_s * 1000)

    def group(self, name: str) -> Group:
        """A consumer group, made when it is first spoken of."""
        found = self.groups.get(name)
        if found is None:
            loop = asyncio.get_running_loop()
            found = Group(name, loop.time, self._schedule, self._initial_rebalance_delay_s)
            self.groups[name] = found
        return found

    # What it answers

    def features(self) -> Features:
        return Features(self.transaction_version)

    def describe_topic(self, topic: str) -> TopicDescription:
        found = self.topics.get(topic)
        if found is None:
            return TopicDescription(topic, Code.UNKNOWN_TOPIC_OR_PARTITION)
        numbers = range(found.partition_count)
        return found._replace(leader_epochs=tuple(self.logs[Partition(topic, at)].leader_epoch for at in numbers))

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        return {topic: self.topics[topic].topic_id for topic in topics if topic in self.topics}

    def epoch_ends(self, epochs: Mapping[Partition, int]) -> EpochEnds:
        return {
            partition: EpochEnd(Code.NONE, self.logs[partition].epoch_end(epoch))
            if partition in self.logs
            else EpochEnd(Code.UNKNOWN_TOPIC_OR_PARTITION)
            for partition, epoch in epochs.items()
        }

    def leaders(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        return {partition: NODE for partition in partitions if partition in self.logs}

    def init_producer_id(self, request: InitProducerId) -> InitProducerIdAnswer:
        return self.coordinator.init_producer_id(request, self.now_ms())

    def produce(self, request: Produce) -> ProduceAnswer:
        """Each batch is judged by itself: some partitions of a request may take theirs and others not."""
        return {
            partition: self._produce(request.transactional_id, partition, bytes(payload))
            for partition, payload in request.batches.items()
        }

    def _produce(self, transactional_id: str | None, partition: Partition, payload: bytes) -> Produced:
        log = self.logs.get(partition)
        if log is None:
            return Produced(Code.UNKNOWN_TOPIC_OR_PARTITION)
        if transactional_id is None:
            return log.append(payload, self.append_ms())
        identity = ProducerIdentity(
            int.from_bytes(payload[_IDENTITY_AT : _IDENTITY_AT + 8], signed=True),
            int.from_bytes(payload[_IDENTITY_AT + 8 : _IDENTITY_AT + 10], signed=True),
        )
        if log.is_stale(*identity):
            return Produced(Code.INVALID_PRODUCER_EPOCH)
        if not log.has_open(*identity):
            code = self._admit(transactional_id, identity, partition)
            if code:
                return Produced(code)
        return log.append(payload, self.append_ms())

    def _admit(self, transactional_id: str, identity: ProducerIdentity, target: Target) -> int:
        code = self.coordinator.add(transactional_id, identity, target, self.now_ms())
        if code == Code.NONE and not self._sweeping:
            self._sweeping = True
            self._schedule(self._sweep_interval_s, self._sweep)
        # Brokers translate it for their clients, who would take 90 for the end of all things (KIP-588).
        return Code.INVALID_PRODUCER_EPOCH if code == Code.PRODUCER_FENCED else code

    def commit_offsets(self, request: TxnOffsetCommit) -> TxnOffsetCommitAnswer:
        known = [partition for partition in request.offsets if partition in self.logs]
        answer: dict[Partition, int] = dict.fromkeys(request.offsets, Code.UNKNOWN_TOPIC_OR_PARTITION)
        if known:
            answer.update(dict.fromkeys(known, self._commit_offsets(request, known)))
        return answer

    def _commit_offsets(self, request: TxnOffsetCommit, partitions: list[Partition]) -> int:
        membership = request.membership
        code = self._admit(request.transactional_id, request.identity, membership.group)
        if code:
            return code
        if membership.group not in self.groups and membership.generation >= 0:
            return Code.ILLEGAL_GENERATION
        group = self.group(membership.group)
        code = group.refuse_offsets(membership)
        if not code:
            staged = {partition: request.offsets[partition] for partition in partitions}
            group.offsets.stage(request.identity.producer_id, staged)
        return code

    def commit_plain_offsets(self, request: OffsetCommit) -> OffsetCommitAnswer:
        """A group's own commit, outside of any transaction."""
        group = self.group(request.membership.group)
        code = group.refuse_offsets(request.membership)
        answer: dict[Partition, int] = {}
        for partition, offset in request.offsets.items():
            answer[partition] = code if partition in self.logs else Code.UNKNOWN_TOPIC_OR_PARTITION
            if answer[partition] == Code.NONE:
                group.offsets.committed[partition] = offset
        return answer

    def end_transaction(self, request: EndTxn) -> EndTxnAnswer:
        return self.coordinator.end(request)

    def fetch_offsets(self, request: OffsetFetch) -> OffsetFetchAnswer:
        group = self.groups.get(request.group)
        offsets = group.offsets if group is not None else GroupOffsets()
        return OffsetFetchAnswer(
            Code.NONE,
            {
                partition: offsets.read(partition, require_stable=request.require_stable)
                for partition in request.partitions
            },
        )

    def list_offsets(self, request: ListOffsets) -> ListOffsetsAnswer:
        return {partition: self._listed(partition, request.which) for partition in request.partitions}

    def _listed(self, partition: Partition, which: OffsetOf) -> ListedOffset:
        log = self.logs.get(partition)
        if log is None:
            return ListedOffset(Code.UNKNOWN_TOPIC_OR_PARTITION)
        if which is OffsetOf.EARLIEST:
            return ListedOffset(Code.NONE, log.start_offset)
        if which is OffsetOf.NEWEST:
            return ListedOffset(Code.NONE, *log.newest())
        high = which is OffsetOf.HIGH_WATERMARK
        return ListedOffset(Code.NONE, log.high_watermark if high else log.last_stable_offset)

    # What it does by itself

    def _schedule(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """A timer of the broker's own: it must not die with the client whose request set it."""
        return asyncio.get_running_loop().call_later(delay_s, callback, context=contextvars.Context())

    def _sweep(self) -> None:
        self.coordinator.sweep(self.now_ms())
        self._sweeping = any(found.targets for found in self.coordinator.transactions.values())
        if self._sweeping:
            self._schedule(self._sweep_interval_s, self._sweep)

    def _write_markers(self, transaction: BrokerTransaction, committed: bool) -> None:
        identity = transaction.identity
        for target in list(transaction.targets):
            delay_s = self.marker_delay_s()
            if delay_s <= 0:
                self._write_marker(transaction, target, identity, committed)
            else:
                self._later(delay_s, transaction, target, identity, committed)

    def _later(
        self, delay_s: float, transaction: BrokerTransaction, target: Target, identity: ProducerIdentity, ok: bool
    ) -> None:
        self._schedule(delay_s, lambda: self._write_marker(transaction, target, identity, ok))

    def _write_marker(
        self, transaction: BrokerTransaction, target: Target, identity: ProducerIdentity, committed: bool
    ) -> None:
        if isinstance(target, str):
            self.group(target).offsets.mark(identity.producer_id, committed)
        elif target in self.logs:
            self.logs[target].mark(identity.producer_id, identity.epoch, committed)
        self.coordinator.marker_written(transaction, target)
