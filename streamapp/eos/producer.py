"""The linear transactional producer: appends to one record batch a partition, and produces them all at the commit.

Why not aiokafka's: every output waits for the commit anyway, so nothing is gained by sending early, and its producer
commits a transaction of which a batch was lost, and aborts one without telling the broker (decision 8). Here a call
happens after the other, every answer is looked at, and no batch is ever built twice: what is repeated is the same
bytes under the same epoch and sequence, which the broker appends once.

What the transaction is for, said once: it makes Kafka-to-Kafka atomic. It removes no repeats a sender made (the inbox
does) and covers no other store (the sinks do).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from streamapp.clock import SYSTEM_CLOCK, Clock
from streamapp.eos.backoff import Backoff
from streamapp.eos.batches import Batch, Compression
from streamapp.eos.cluster import Cluster, NoAnswer
from streamapp.eos.coordinator import Coordinator
from streamapp.eos.protocol import Code, Membership, Produce, ProduceAnswer, Produced, TopicDescription
from streamapp.eos.record_accumulator import RecordAccumulator
from streamapp.eos.remedies import REPEATED, ContentRefused, ErrorRemedy, named, remedy, worst
from streamapp.eos.topic_metadata import TOPIC_PATIENCE_S, TopicMetadataCache
from streamapp.eos.transaction import BrokenTransaction, TransactionState
from streamapp.errors import ConfigurationError
from streamapp.failpoints import failpoint, planned
from streamapp.types import Partition

#: A record batch is closed at this size or the topic's limit, whichever is smaller.
BATCH_BYTES = 1 << 20
#: Batches of several partitions share a request up to this size; brokers take 100 MiB by default.
REQUEST_BYTES = 8 << 20
#: How long a broker may wait for its replicas before it answers 7, in seconds.
REPLICATION_TIMEOUT_S = 4.0


class Written(NamedTuple):
    """Where a partition's records went in one transaction. Other producers' records may be in between."""

    base_offset: int
    #: One past the last record: the checkpoint of a changelog that only this producer writes.
    next_offset: int


class _Sending(NamedTuple):
    """A closed batch: bytes that no longer change."""

    records: bytes
    record_count: int


class Producer:
    """One process's transactional producer. All calls are made from one event loop, one transaction at a time.

    `transaction_timeout_s`: after it the broker aborts an open transaction; every wait before the commit point ends
    then, too. `append()` is the hot path and synchronous; its topic must be known by `ensure()`.
    """

    def __init__(
        self,
        cluster: Cluster,
        transactional_id: str | None,
        *,
        transaction_timeout_s: float,
        compression: Compression = "none",
        batch_bytes: int = BATCH_BYTES,
        clock: Clock = SYSTEM_CLOCK,
        coordinator: Any = None,
    ) -> None:
        self.transactional_id = transactional_id
        self._cluster = cluster
        self._clock = clock
        self._coordinator: Coordinator = coordinator or Coordinator(
            cluster, transactional_id or "", transaction_timeout_s, clock
        )
        self._catalog = TopicMetadataCache(cluster, clock)
        self._topics = self._catalog.known
        #: What was appended since the last seal.
        self.filling = RecordAccumulator(
            self._topics, batch_bytes, compression, clock, transactional=transactional_id is not None
        )
        #: The batches of the transaction that is committed next; None: nothing was parted from what is appended.
        self._sealed: list[Batch] | None = None
        # The hot path, without a step in between.
        self.knows = self._topics.__contains__
        self.append = self.filling.append
        self.append_all = self.filling.append_all
        self.check = self.filling.check
        self.partition_for = self.filling.partition_for

    @property
    def byte_count(self) -> int:
        """Bytes appended since the last seal, before compression."""
        return self.filling.byte_count

    @property
    def state(self) -> TransactionState:
        return self._coordinator.transaction.state

    async def start(self) -> None:
        """Take the transactional id, once at process start. Fences every older process with it (decision 5).

        Waits for a broker that is down. `ConfigurationError` where the cluster lacks transaction protocol v2.
        """
        patience = Backoff(self._clock, "asking a broker for its features")
        while True:
            try:
                features = await self._cluster.features()
                break
            except NoAnswer as exc:
                await patience.pause(str(exc))
        if features.transaction_version < 2:
            raise ConfigurationError(
                f"The cluster's transaction.version is {features.transaction_version}, but exactly once needs 2 (Kafka "
                "4.0 or later): on 1 a delayed EndTxn can commit half a transaction. Nothing was started. Run "
                "kafka-features.sh upgrade --feature transaction.version=2."
            )
        await self._coordinator.open()

    async def confirm(self) -> None:
        """Ask whether this process is still the newest under its transactional id; `InstanceFenced` if not.

        To be asked before rejoining after a lost membership (decision 5). Drops what was appended.
        """
        self.forget()
        await self._coordinator.ask()

    # --- topics

    async def ensure(self, topic: str, *, patience_s: float = TOPIC_PATIENCE_S) -> TopicDescription:
        """Learn a topic's partitions and limits before the first send to it (`TopicMetadataCache.ensure`)."""
        return await self._catalog.ensure(topic, patience_s)

    async def renew(self, topic: str) -> TopicDescription:
        """Learn a topic again: it may have got partitions, or be gone (`TopicMetadataCache.renew`)."""
        return await self._catalog.renew(topic)

    async def refresh(self, topic: str) -> None:
        """Look once whether a topic's limits or partitions have changed (`TopicMetadataCache.refresh`)."""
        await self._catalog.refresh(topic)

    # --- the steps of a commit, in this order (eos/commit.py)

    def seal(self) -> None:
        """Part what was appended from what will be: it is the next `produce()`'s, and nothing is added to it.

        What is appended from here on stays here until that transaction has ended, and is forgotten if it aborts.
        """
        if self._sealed is not None:
            raise BrokenTransaction("A transaction was sealed while another one is on its way.")
        self._sealed = list(self.filling.batches())
        self.filling.clear()
        self.filling.turn += 1

    def forget(self) -> None:
        """Drop what was appended and not produced, sealed or not."""
        self._sealed = None
        self.filling.clear()

    async def produce(self) -> Mapping[Partition, Written]:
        """Step 3: produce every sealed batch and check every answer. Returns where the records went.

        Where nothing was sealed, all that was appended is.
        `ContentRefused`, `TransactionAborted` or `InstanceFenced` when any batch failed; `abort()` is next then.
        """
        if self.state is not TransactionState.EMPTY:
            raise BrokenTransaction(f"A commit was begun while the last transaction is {self.state.name}.")
        waiting = self._close_batches()
        written: dict[Partition, Written] = {}
        patience = self._coordinator.patience("producing")
        while waiting:
            heads = {partition: batches[0] for partition, batches in waiting.items()}
            if planned("produce.some_acknowledged"):  # one leg of a transfer acknowledged, the other not sent
                heads = dict(list(heads.items())[::2])
            answers, reason = await self._round({partition: sending.records for partition, sending in heads.items()})
            await self._check(answers)
            for partition, answer in answers.items():
                if answer.error != Code.NONE:
                    reason = f"{partition}: {named(answer.error)}"
                    continue
                first = written[partition].base_offset if partition in written else answer.base_offset
                written[partition] = Written(first, answer.base_offset + heads[partition].record_count)
                waiting[partition].popleft()
                if not waiting[partition]:
                    del waiting[partition]
            if waiting:
                failpoint("produce.some_acknowledged")
            if reason is not None:
                await patience.pause(reason)
        return written

    async def bind(self, offsets: Mapping[Partition, int], membership: Membership) -> None:
        """Step 4: the consumed offsets, guarded by the membership. `Fenced` when the seat is no longer valid."""
        await self._coordinator.bind(offsets, membership)

    async def end(self) -> None:
        """Step 5, the commit point. Goes on until the outcome is known (decision 7)."""
        await self._coordinator.end(committed=True)

    async def abort(self) -> None:
        """Give up what is open and everything appended, also after the seal. Afterwards the next transaction may begin.

        Waits for a broker that is down; may be cancelled and called again. `InstanceFenced` if somebody newer holds
        the transactional id. Never possible once the commit was sent: its outcome is not ours to change.
        """
        self.forget()
        if self.state in (TransactionState.RECORDS_SENT, TransactionState.OFFSETS_SENT, TransactionState.ABORTING):
            await self._coordinator.end(committed=False)
        elif self.state is TransactionState.ENDED_BY_BROKER:
            await self._coordinator.ask()
        elif self.state is TransactionState.COMMITTING:
            raise BrokenTransaction("A transaction whose commit was sent cannot be aborted; its outcome is in doubt.")

    def _close_batches(self) -> dict[Partition, deque[_Sending]]:
        """Every batch as bytes, in order of appending, numbered under the transaction's identity."""
        transaction = self._coordinator.transaction
        if self._sealed is None:
            self.seal()
        sealed, self._sealed = self._sealed or [], None
        closed: dict[Partition, deque[_Sending]] = {}
        for batch in sealed:
            records = batch.close(transaction.identity, transaction.sequence(batch.partition))
            transaction.advance(batch.partition, batch.count)
            closed.setdefault(batch.partition, deque()).append(_Sending(records, batch.count))
        return closed

    async def _round(self, heads: Mapping[Partition, bytes]) -> tuple[ProduceAnswer, str | None]:
        """Send one batch a partition, all nodes at once: (answers, why some partitions have none)."""
        try:
            leaders = await self._cluster.leaders(tuple(heads))
        except NoAnswer as exc:
            return {}, str(exc)
        requests = _requests(heads, leaders)
        if requests:
            self._coordinator.produce_sent()
        answers: dict[Partition, Produced] = {}
        unanswered = [f"{partition} has no leader" for partition in heads if partition not in leaders]
        calls = (self._cluster.produce(node, self._request(batches)) for node, batches in requests)
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, NoAnswer):
                unanswered.append(str(outcome))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                answers.update(outcome)
        return answers, unanswered[0] if unanswered else None

    def _request(self, batches: dict[Partition, bytes]) -> Produce:
        return Produce(self.transactional_id, int(REPLICATION_TIMEOUT_S * 1000), batches)

    async def _check(self, answers: ProduceAnswer) -> None:
        """Raise what the worst of the answers means; none of them is passed over (decision 8)."""
        code = worst(answer.error for answer in answers.values())
        if code == Code.NONE or remedy(code) in REPEATED:
            return
        partition, answer = next(item for item in answers.items() if item[1].error == code)
        if remedy(code) is ErrorRemedy.CONTENT:
            failpoint("produce.one_refused")
            # With the topic's limits of today the record at fault is refused at its append when it comes again.
            await self.refresh(partition.topic)
            self._refuse_content(partition, answer)
        await self._coordinator.fail(code, f"A batch for {partition} was refused")

    def _refuse_content(self, partition: Partition, answer: Produced) -> NoReturn:
        indexes = tuple(index for index, _ in answer.record_errors)
        reasons = [why for _, why in answer.record_errors if why]
        raise ContentRefused(partition, answer.error, indexes, answer.message or (reasons[0] if reasons else ""))


def _requests(
    heads: Mapping[Partition, bytes], leaders: Mapping[Partition, int]
) -> list[tuple[int, dict[Partition, bytes]]]:
    """Batches grouped by the node that leads them, in requests of at most `REQUEST_BYTES` unless one batch is more."""
    requests: list[tuple[int, dict[Partition, bytes]]] = []
    room: dict[int, tuple[int, dict[Partition, bytes]]] = {}
    for partition, records in heads.items():
        node = leaders.get(partition)
        if node is None:
            continue
        size, batches = room.get(node, (REQUEST_BYTES, {}))
        if size + len(records) > REQUEST_BYTES:
            size, batches = 0, {}
            requests.append((node, batches))
        batches[partition] = records
        room[node] = (size + len(records), batches)
    return requests
