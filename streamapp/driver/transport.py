"""Our engine as a Faust transport: `broker="streamapp://host:port"`.

Faust's own producer stays for what is sent outside of events (`faust send`, a script); everything an event does goes
through the engine.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import aiokafka
from faust.exceptions import ConsumerNotStarted
from faust.transport.conductor import Conductor as FaustConductor
from faust.transport.drivers import aiokafka as faust_aiokafka
from faust.types.tuples import TP
from mode import Service

from streamapp.clock import SYSTEM_CLOCK
from streamapp.delivery import dead_letter
from streamapp.delivery.after_commit import TABLE as INTENTS
from streamapp.delivery.inbox import TABLE as INBOX
from streamapp.driver.after_commit import IntentTable, run_intent
from streamapp.driver.consumer import GroupConsumer
from streamapp.driver.engine import Engine
from streamapp.driver.inbox import InboxTable, one_count
from streamapp.driver.intents import Intents
from streamapp.driver.restore import State, restore_stores
from streamapp.driver.route import TopicRoute
from streamapp.driver.task import Task
from streamapp.driver.topic_setup import create, create_missing
from streamapp.eos.cluster import Cluster
from streamapp.eos.connections import KafkaCluster, connect, security_options
from streamapp.eos.patience import Patience
from streamapp.eos.plain import PlainProducer
from streamapp.eos.producer import Producer
from streamapp.eos.protocol import OffsetOf
from streamapp.eos.recovery import listed_offsets, stable_offsets
from streamapp.errors import ConfigurationError, RecordError, StreamAppError, Unavailable
from streamapp.failpoints import failpoint
from streamapp.state import DirectoryInUse, Identity, MemoryState, StateDirectory
from streamapp.state import Partition as StorePartition
from streamapp.topics import changelog_spec, inbox_changelog_spec
from streamapp.types import Partition

logger = logging.getLogger(__name__)

#: How soon a topic that was deleted or has got partitions is noticed.
_METADATA_AGE_MS = 5000
#: How long a drain waits for runs of timers that are under way, in seconds.
_TIMERS_END_WITHIN_S = 2.0
#: How many workers without INSTANCE may share one DATADIR.
_DYNAMIC_DIRECTORIES = 64


class Conductor(FaustConductor):
    """Faust's registry of subscribed topics; delivering is the tasks'."""

    logger = logging.getLogger("faust.conductor")
    #: Seconds until a topic that an agent begins to read later is subscribed to.
    _resubscribe_sleep_lock_seconds = 0.5

    def _update_callback_map(self) -> None:
        """Nothing: no message passes here."""

    def channels(self, topic: str, partition: int) -> list[Any]:
        """The channels that want a partition's events."""
        return sorted(self._tp_index[TP(topic, partition)], key=id)


class Consumer(Service):
    """The worker's service: connects, takes the transactional id, joins the group, and ends in the reverse order."""

    logger = logging.getLogger("faust.consumer")

    def __init__(self, transport: Any, **kwargs: Any) -> None:
        super().__init__(loop=kwargs.get("loop"), beacon=kwargs.get("beacon"))
        self.transport = transport
        self.app = transport.app
        self.flow_active = True
        #: Faust's iteration of channels in memory looks here; no message of a topic ever is.
        self._unacked_messages: set[Any] = set()
        self._cluster: Cluster | None = None
        self._state: State | None = None
        self._consumer: aiokafka.AIOKafkaConsumer | None = None
        self._group: GroupConsumer | None = None
        self._engine: Engine | None = None
        self._stores: dict[Partition, StorePartition] = {}
        self._work: list[asyncio.Task[None]] = []
        self._subscribed: list[str] = []

    # --- start and stop

    async def on_start(self) -> None:
        """Open the state directory, connect, fence older processes of this worker, join."""
        settings, app = self.app.settings, self.app
        self._state = _opened_state(settings)
        cluster = self._cluster = await self._connected()
        producer = self._new_producer(cluster)
        await producer.start()
        engine = self._engine = Engine(settings, producer, SYSTEM_CLOCK, crash=self.end)
        self._consumer = aiokafka.AIOKafkaConsumer(
            group_id=settings.id,
            group_instance_id=settings.instance,
            partition_assignment_strategy=[app.assignor],
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(settings.session_timeout * 1000),
            heartbeat_interval_ms=int(settings.session_timeout * 1000 / 4),
            max_partition_fetch_bytes=2 << 20,
            fetch_max_wait_ms=200,
            metadata_max_age_ms=_METADATA_AGE_MS,
            **self._client_options(),
        )
        self._group = GroupConsumer(
            self._consumer,
            engine,
            SYSTEM_CLOCK,
            instance=settings.instance,
            prepare=self._prepare,
            crash=self.end,
        )
        app.engine = engine

    async def _connected(self) -> KafkaCluster:
        """A connection to the cluster; a broker that is still starting is waited for, and a line says so."""
        settings = self.app.settings
        patience = Patience(
            SYSTEM_CLOCK,
            f"connecting to Kafka at {settings.broker}",
            limit_s=self.app.broker_patience_s,
            on_limit=Unavailable,
        )
        while True:
            try:
                return await connect(settings.broker, security=security_options(settings))
            except Unavailable as exc:
                await patience.pause(str(exc).removesuffix("."))

    def _new_producer(self, cluster: KafkaCluster) -> Producer:
        settings = self.app.settings
        if settings.processing_guarantee == "at_least_once":
            return PlainProducer(cluster, limit_s=settings.transaction_timeout)
        name = settings.instance or getattr(self._state, "worker_id", None) or f"memory-{uuid.uuid4()}"
        return Producer(cluster, f"{settings.id}-{name}", transaction_timeout_s=settings.transaction_timeout)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group for these topics, which exist from here on. What cannot be ends the worker."""
        try:
            await self._subscribe(topics)
        except ConfigurationError as exc:
            self.end(exc)

    async def _subscribe(self, topics: Iterable[str]) -> None:
        assert self._consumer is not None and self._group is not None and self._engine is not None
        names = sorted(topics)
        if names == self._subscribed:
            return  # to subscribe anew would rebalance the group for nothing
        self._subscribed = names
        app = self.app
        tables = [table for table in app.tables.values() if not isinstance(table, InboxTable | IntentTable)]
        declared = dict(app.declared_topics)
        for channel in app.topics:  # streams made by group_by() say how many partitions they want
            declared.update({name: channel.partitions for name in channel.topics if channel.partitions})
        await create_missing(
            app.settings,
            declared=declared,
            consumed=names,
            changelogs={table.changelog_topic_name: table.partitions for table in tables},
            client_options=self._client_options(),
        )
        await self._create_task_changelogs(names)
        first = not self._work
        self._consumer.subscribe(names, listener=_Listener(self._group))
        if first:
            await self._consumer.start()
            self._work = [
                asyncio.create_task(self._guarded(self._group.run()), name="streamapp-fetch"),
                asyncio.create_task(self._engine.run(), name="streamapp-commit"),
            ]

    async def _create_task_changelogs(self, consumed: Iterable[str]) -> None:
        """Changelogs of the app's own tables, with as many partitions as the topics whose events they belong to."""
        settings, tables = self.app.settings, self.app.tables
        inbox, intents = tables.get(INBOX), tables.get(INTENTS)
        if isinstance(inbox, InboxTable) and inbox.topics:
            name, partitions = inbox.changelog_topic_name, one_count(await self._partition_counts(inbox.topics))
            await create(
                lambda brokers, _: {name: inbox_changelog_spec(settings, brokers, name, partitions)},
                self._client_options(),
            )
        if intents is not None:
            log, most = intents.changelog_topic_name, max((await self._partition_counts(consumed)).values())
            await create(lambda brokers, _: {log: changelog_spec(settings, brokers, log, most)}, self._client_options())

    async def _partition_counts(self, topics: Iterable[str]) -> dict[str, int]:
        assert self._engine is not None
        return {topic: (await self._engine.producer.ensure(topic)).partition_count for topic in topics}

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except Exception as exc:  # noqa: BLE001 - it ends the worker, with its reason
            self.end(exc)

    async def drain(self) -> None:
        """Let running events finish and commit them; no further one starts. Called before the agents are stopped."""
        if self._engine is not None and self._engine.membership is not None:
            await self._engine.end_timers(_TIMERS_END_WITHIN_S)
        if self._group is not None:
            await self._group.close()
        failpoint("K22")
        if self._engine is not None and self._engine.membership is not None:
            await self._engine.commit_all()

    async def on_stop(self) -> None:
        if self._engine is not None and self._engine.intents is not None:
            await self._engine.intents.close()
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        if self._group is not None:
            await self._group.close()
        if self._consumer is not None:
            await self._consumer.stop()
        if self._cluster is not None:
            await self._cluster.close()
        if self._state is not None:
            self._state.close()
        self.app.engine = None

    def end(self, exc: BaseException) -> None:
        """End the worker with an error; the first one is the reason."""
        logger.critical("%s", exc, exc_info=None if isinstance(exc, StreamAppError) else exc)
        if self.app.failure is not None:
            return
        self.app.failure = exc
        self.add_future(self.crash(exc))

    def _client_options(self) -> dict[str, Any]:
        settings = self.app.settings
        return {"bootstrap_servers": settings.broker, **security_options(settings)}

    # --- an assignment

    async def _prepare(self, partitions: Collection[Partition]) -> list[Task]:
        app, engine, cluster = self.app, self._engine, self._cluster
        assert engine is not None and cluster is not None and self._state is not None
        producer = engine.producer
        tps = {TP(*partition) for partition in partitions}
        revoked, newly = app._update_assignment(tps)
        await app.agents.on_rebalance(revoked, newly)
        await app.topics.on_partitions_assigned(tps)
        consumed = {partition.topic for partition in partitions}
        for topic in app.declared_topics.keys() - consumed:
            await producer.ensure(topic)
        for topic in sorted({*self._subscribed, *consumed}):
            await self._refuse_a_changed_topic(topic)
        failpoint("K15a")
        offsets = await self._starting_offsets(partitions)
        failpoint("K15b")
        tasks: dict[tuple[int, int], Task] = {}
        for partition in sorted(partitions):
            count = (await producer.ensure(partition.topic)).partition_count
            task = tasks.get((count, partition.number))
            if task is None:
                task = tasks[count, partition.number] = Task(partition.number, engine.gate, engine, {})
            channels = app.topics.channels(*partition)
            task.routes[partition.topic] = TopicRoute(app, partition.topic, count, channels)
            task.offsets[partition] = offsets[partition]
        await self._restore(tasks)
        return list(tasks.values())

    async def _refuse_a_changed_topic(self, topic: str) -> None:
        """`ConfigurationError` for an input that was deleted or has got partitions: keys must not leave their state.

        Dead letters keep their record's partition number and are made with their topic, so their topic remembers how
        many partitions there were.
        """
        assert self._engine is not None
        producer = self._engine.producer
        letters = topic + dead_letter.SUFFIX
        try:
            count = (await producer.renew(topic)).partition_count
            count_then = (await producer.renew(letters)).partition_count
        except RecordError as exc:
            raise ConfigurationError(
                f"{topic} or {letters} was deleted under this worker: {exc} What was committed stands. If that was "
                "meant, start again, which creates them anew; else stop all workers first and bring them back."
            ) from exc
        if count > count_then:
            raise ConfigurationError(
                f"{topic} has {count} partitions and {letters} {count_then}: partitions were added to a topic in use, "
                "so that keys have moved away from their state. What was committed stands, and nothing more is "
                f"processed. Recreate {topic} with {count_then} partitions, or, where neither a table nor the order "
                f"of a key's records matters, add partitions to {letters}, too."
            )

    async def _starting_offsets(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """The committed offsets, once they are stable; the beginning where nothing was ever committed."""
        cluster, group = self._cluster, self.app.settings.id
        assert cluster is not None
        committed = await stable_offsets(cluster, group, partitions)
        begin = await listed_offsets(cluster, tuple(partitions), OffsetOf.EARLIEST)
        offsets = {}
        for partition, offset in committed.items():
            earliest = begin[partition]
            if offset is not None and offset < earliest:
                raise ConfigurationError(
                    f"{partition}: the committed offset {offset} is gone, the topic now begins at {earliest}: records "
                    "were deleted before they were processed. Nothing was skipped. Raise the topic's retention, and "
                    f"reset the offsets of group {group} to go on without them."
                )
            offsets[partition] = earliest if offset is None else offset
        return offsets

    def _new_intents(self, engine: Engine) -> Intents:
        handlers = self.app.intent_handlers
        return Intents(
            lambda intent: run_intent(handlers, intent),
            engine.gate,
            SYSTEM_CLOCK,
            finished=engine.finished,
            count=engine.count,
            crash=self.end,
        )

    async def _restore(self, tasks: Mapping[tuple[int, int], Task]) -> None:
        engine, cluster, state, app = self._engine, self._cluster, self._state, self.app
        assert engine is not None and cluster is not None and state is not None
        engine.changelogs = {name: table.changelog_topic_name for name, table in app.tables.items()}
        if engine.intents is None and INTENTS in app.tables:
            engine.intents = self._new_intents(engine)
        retentions_s = {name: math.ceil(t.retention_s) for name, t in app.tables.items() if isinstance(t, InboxTable)}
        wanted: dict[Partition, Identity] = {}
        owner: dict[Partition, tuple[Task, str]] = {}
        for table, changelog in engine.changelogs.items():
            table_count = (await engine.producer.ensure(changelog)).partition_count
            for (count, number), task in tasks.items():
                if count == table_count:
                    log = Partition(changelog, number)
                    wanted[log] = Identity(app.settings.id, table, number, changelog)
                    owner[log] = (task, table)
        for log in self._stores.keys() - wanted.keys():
            self._stores.pop(log).close()
        await restore_stores(wanted, state, cluster, SYSTEM_CLOCK, self._client_options(), self._stores, retentions_s)
        for log, store in self._stores.items():
            task, table = owner[log]
            task.stores[table] = store

    # --- what Faust asks of a consumer

    def assignment(self) -> set[TP]:
        """Faust's App would stop and drain by itself; the engine does it, so there is nothing to see here."""
        raise ConsumerNotStarted

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """Nothing: fetching is the engine's."""

    def stop_flow(self) -> None:
        """Nothing: the gate is the engine's."""

    def resume_flow(self) -> None:
        """Nothing: the gate is the engine's."""

    def close(self) -> None:
        """Nothing: `on_stop` closes."""


class _Listener(aiokafka.ConsumerRebalanceListener):
    def __init__(self, group: GroupConsumer) -> None:
        self._group = group

    async def on_partitions_revoked(self, revoked: Any) -> None:
        await self._group.on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        await self._group.on_partitions_assigned(assigned)


class Transport(faust_aiokafka.Transport):
    """See the module."""

    Consumer = Consumer
    Conductor = Conductor


def _opened_state(settings: Any) -> State:
    """The state directory of this worker; without INSTANCE the first one that nobody holds."""
    if settings.store == "memory":
        return MemoryState()
    first = settings.state_directory
    if settings.instance:
        return StateDirectory(first, settings.id)
    for number in range(1, _DYNAMIC_DIRECTORIES + 1):
        try:
            return StateDirectory(first if number == 1 else first.with_name(f"{first.name}-{number}"), settings.id)
        except DirectoryInUse:
            continue
    raise ConfigurationError(
        f"{_DYNAMIC_DIRECTORIES} workers without INSTANCE use {first.parent} already. Give this one an INSTANCE."
    )
