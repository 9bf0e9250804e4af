"""The app's topic of positions as one worker knows it: read at each assignment, written by each commit."""

from __future__ import annotations

from streamapp.engine.environment import ChangelogFetches, Environment
from streamapp.engine.participant import InFlightTransaction, Order, Participant
from streamapp.eos.backoff import Backoff, available
from streamapp.eos.cluster import Cluster
from streamapp.eos.positions import NO_EPOCH, NUMBER, Position, key_of, positions_topic, read_position, value_of
from streamapp.eos.producer import Producer
from streamapp.eos.protocol import TopicDescription
from streamapp.eos.recovery import PATIENCE_S, restore, restore_plans
from streamapp.errors import ConfigurationError, RecordError, Unavailable
from streamapp.types import Partition

_FETCH_RECORDS = 20_000


class Positions(Participant):
    """Writes the positions of the inputs with each commit, and knows the last ones.

    `lags`: a position is written one commit late, which at least once needs.

    Written before the offsets, and with nothing to take it back: a crash between the two must not leave it ahead of
    them, where its records would be taken for processed.
    """

    order = Order.POSITIONS

    def __init__(self, app_id: str, *, lags: bool = False) -> None:
        self.topic = positions_topic(app_id)
        self.lags = lags
        #: Of every partition of the app, as they are committed.
        self.known: dict[Partition, Position] = {}
        #: The id of each topic that is read, as it was at the assignment.
        self.topic_ids: dict[str, str] = {}
        #: Every topic that the app reads, as it was at the assignment.
        self.inputs: dict[str, TopicDescription] = {}
        self._next: int | None = None
        self._sealed: dict[Partition, Position] = {}

    async def prepare(self, producer: Producer) -> None:
        """Know the topic before the first commit. `ConfigurationError` where it cannot be used."""
        try:
            found = await producer.renew(self.topic)
        except RecordError as exc:
            raise ConfigurationError(
                f"The topic of positions {self.topic} was deleted under this worker: {exc} What was committed stands. "
                "Start again, which creates it anew: the worker goes on from the group's offsets."
            ) from exc
        if not found.compacted:
            raise ConfigurationError(
                f"{self.topic} is not compacted, so that positions in it would be deleted by age. Nothing was "
                f"processed. Run kafka-configs.sh --alter --entity-type topics --entity-name {self.topic} "
                "--add-config cleanup.policy=compact."
            )

    async def read(self, cluster: Cluster, environment: Environment) -> None:
        """Catch up with the topic, behind everything that is committed now. Ask for stable offsets first."""
        log, clock = Partition(self.topic, NUMBER), environment.clock
        (plan,) = (await restore_plans(cluster, {log: self._next}, clock=clock)).values()
        if plan.wipe is not None:  # another topic of the same name
            self.known.clear()
        if plan.start < plan.target:
            patience = Backoff(clock, "connecting to read the positions", limit_s=PATIENCE_S, on_limit=Unavailable)
            fetches = await available(patience, lambda: environment.changelogs({log: plan.start}))
            try:
                await restore(cluster, _Reader(fetches, self.known), {log: plan}, clock=clock)
            finally:
                await fetches.close()
        self._next = plan.target

    def seal(self, transaction: InFlightTransaction) -> None:
        """Append to the transaction every position that is not as it was written last."""
        owned, producer = transaction.owned, transaction.producer
        offsets = owned.committed if self.lags else {**owned.committed, **transaction.offsets}
        self._sealed = {}
        for partition, offset in offsets.items():
            known, topic_id = self.known.get(partition), self.topic_ids.get(partition.topic, "")
            topic = self.inputs.get(partition.topic)
            count = topic.partition_count if topic is not None else 0
            if known is not None and known.topic_id == topic_id:
                if known.offset == offset and known.partitions == count:
                    continue
                epoch = known.leader_epoch
            else:
                epoch = NO_EPOCH
            if owned.consumer is not None:
                epoch = max(epoch, owned.consumer.leader_epoch(partition))
            position = self._sealed[partition] = Position(topic_id, offset, epoch, count)
            producer.append(self.topic, NUMBER, key_of(partition), value_of(position))

    def committed(self, transaction: InFlightTransaction) -> None:
        self.known.update(self._sealed)


class _Reader:
    """Reads the topic of positions into a dictionary; the last one of each partition counts."""

    def __init__(self, fetches: ChangelogFetches, known: dict[Partition, Position]) -> None:
        self._fetches = fetches
        self._known = known

    async def fetch(self) -> int:
        """Take in what has come."""
        count = 0
        for records in (await self._fetches.fetch(_FETCH_RECORDS)).values():
            count += len(records)
            for key, value in {record.key: record.value for record in records}.items():
                partition, position = read_position(key, value)
                if position is None:
                    self._known.pop(partition, None)
                else:
                    self._known[partition] = position
        return count

    async def position(self, changelog: Partition) -> int:
        """The offset that is read next."""
        return await self._fetches.position(changelog)
