"""Our engine as a Faust transport: `broker="streamapp://host:port"`.

Faust's own producer stays for what is sent outside of events (`faust send`, a script); everything an event does goes
through the engine.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterable
from typing import Any

from faust.exceptions import ConsumerNotStarted
from faust.transport.conductor import Conductor as FaustConductor
from faust.transport.drivers import aiokafka as faust_aiokafka
from faust.types.tuples import TP
from mode import Service

from streamapp.client.environment import KafkaEnvironment
from streamapp.delivery.after_commit import TABLE as INTENTS
from streamapp.delivery.inbox import TABLE as INBOX
from streamapp.driver.assignment import Assignment
from streamapp.driver.session import Session
from streamapp.driver.tables.inbox import InboxTable, one_count
from streamapp.driver.tables.inputs import refuse_misfits
from streamapp.driver.tables.upsert_flusher import UpsertFlusher
from streamapp.driver.tables.window_closer import WindowCloser
from streamapp.driver.topic_setup import create, wanted_by
from streamapp.engine.engine import Engine
from streamapp.engine.environment import Environment, Member, WantedTopics
from streamapp.engine.group import GroupConsumer
from streamapp.engine.idle_positions import commit_idle_positions
from streamapp.engine.positions import Positions
from streamapp.engine.topic_watch import watch_topics
from streamapp.engine.worker_state import State
from streamapp.eos.at_least_once import AtLeastOnceCluster, AtLeastOnceProducer
from streamapp.eos.backoff import Backoff, available
from streamapp.eos.cluster import Cluster
from streamapp.eos.membership import give_back
from streamapp.eos.producer import Producer
from streamapp.errors import StreamAppError, Unavailable
from streamapp.failpoints import failpoint
from streamapp.topics import CONTRACT, TopicSpec, changelog_spec, inbox_changelog_spec, positions_spec

logger = logging.getLogger(__name__)

#: How long a drain waits for runs of timers that are under way, in seconds.
_TIMERS_END_WITHIN_S = 2.0


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


class WorkerService(Service):
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
        self._environment: Any = None
        self._member: Member | None = None
        self._group: GroupConsumer | None = None
        self._engine: Engine | None = None
        self._preparation: Assignment | None = None
        self._work: list[asyncio.Task[None]] = []

    @property
    def reads(self) -> list[str]:
        """Topics it has subscribed to."""
        return [] if self._preparation is None else self._preparation.subscribed

    # --- start and stop

    async def on_start(self) -> None:
        """Open the state directory, connect, fence older processes of this worker, join."""
        settings, app = self.app.settings, self.app
        environment = self._environment = app.environment or KafkaEnvironment(settings, app.assignor)
        self._state = environment.open_state()
        cluster = self._cluster = await self._connected(environment)
        producer = self._new_producer(cluster)
        producer.filling.partitioners = app.partitioners
        await producer.start()
        engine = self._engine = Engine(settings, producer, environment.clock, crash=self.end)
        engine.letters.partitioners = app.partitioners
        engine.letters.of_the_contract = {topic.name for topic in CONTRACT} if app.is_the_service else set()
        engine.use_positions(Positions(settings.id, lags=settings.processing_guarantee == "at_least_once"))
        self._member = environment.member(engine.due_in_s)
        self._preparation = Assignment(app, engine, cluster, self._state, environment)
        self._group = GroupConsumer(
            self._member, engine, environment.clock, prepare=self._preparation.prepare, crash=self.end
        )
        app.engine = engine
        app.session = Session(engine, cluster, self._preparation.restoring)

    async def _connected(self, environment: Environment) -> AtLeastOnceCluster:
        """A connection to the cluster; a broker that is still starting is waited for, and a line says so."""
        return await available(self._patience("connecting to Kafka"), environment.connect)

    def _patience(self, what: str) -> Backoff:
        clock, limit_s = self._environment.clock, self.app.broker_patience_s
        return Backoff(clock, f"{what} at {self.app.settings.broker}", limit_s=limit_s, on_limit=Unavailable)

    def _new_producer(self, cluster: AtLeastOnceCluster) -> Producer:
        settings, clock = self.app.settings, self._environment.clock
        if settings.processing_guarantee == "at_least_once":
            return AtLeastOnceProducer(
                cluster, limit_s=settings.transaction_timeout, compression=settings.compression, clock=clock
            )
        name = settings.instance or getattr(self._state, "worker_id", None) or f"memory-{uuid.uuid4()}"
        return Producer(
            cluster,
            f"{settings.id}-{name}",
            transaction_timeout_s=settings.transaction_timeout,
            compression=settings.compression,
            clock=clock,
        )

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group for these topics, which exist from here on. What cannot be ends the worker."""
        await self._guarded(self._subscribe(topics))

    async def _subscribe(self, topics: Iterable[str]) -> None:
        assert self._member is not None and self._group is not None
        assert self._engine is not None and self._preparation is not None
        names = sorted(topics)
        if names == self._preparation.subscribed:
            return  # to subscribe anew would rebalance the group for nothing
        self._preparation.subscribed = names
        app, wanted_of = self.app, wanted_by(self.app, names)
        await self._create(lambda brokers, counts: {**wanted_of(brokers, counts), **self._positions(brokers)})
        await self._create_task_changelogs(names)
        member, group = self._member, self._group
        await available(self._patience("joining the group"), lambda: member.subscribe(names, group))
        if not self._work:
            self._work = [
                asyncio.create_task(self._guarded(self._group.run()), name="streamapp-fetch"),
                asyncio.create_task(self._engine.run(), name="streamapp-commit"),
                asyncio.create_task(
                    self._guarded(commit_idle_positions(self._engine, self._environment.clock)), name="streamapp-idle"
                ),
            ]
            assert self._cluster is not None
            watch = watch_topics(self._engine, self._cluster, self._environment.clock)
            self._work.append(asyncio.create_task(self._guarded(watch), name="streamapp-watch"))
            if app.windowed_tables:
                closings = WindowCloser(self._engine, app.windowed_tables, self._environment.clock)
                self._work.append(asyncio.create_task(self._guarded(closings.run()), name="streamapp-closings"))
            if app.limited_upserts:
                held = UpsertFlusher(self._engine, app.limited_upserts, self._environment.clock)
                self._engine.committer.register(held)
                self._work.append(asyncio.create_task(self._guarded(held.run()), name="streamapp-upserts"))

    def _positions(self, brokers: int) -> dict[str, TopicSpec]:
        assert self._engine is not None and self._engine.positions is not None
        name = self._engine.positions.topic
        return {name: positions_spec(self.app.settings, brokers, name)}

    async def _create_task_changelogs(self, consumed: Iterable[str]) -> None:
        """Changelogs of the app's own tables, with as many partitions as the topics whose events they belong to.

        `ConfigurationError` with every one that exists with another number.
        """
        settings, tables = self.app.settings, self.app.tables
        inbox, intents = tables.get(INBOX), tables.get(INTENTS)
        marks: dict[str, int] = {}
        if isinstance(inbox, InboxTable) and inbox.topics:
            marks[inbox.changelog_topic_name] = one_count(await self._partition_counts(inbox.topics))
        counts = await self._partition_counts(consumed)
        logs = {table.table.changelog_topic_name: table.partitions(counts) for table in self.app.windowed_tables}
        for upserts in self.app.limited_upserts:
            of_rows = upserts.table.changelog_topic_name
            logs[upserts.marks.changelog_topic_name] = (await self._partition_counts([of_rows]))[of_rows]
        if intents is not None:
            logs[intents.changelog_topic_name] = max(counts.values())
        await self._create(
            lambda brokers, _: {
                **{log: inbox_changelog_spec(settings, brokers, log, count) for log, count in marks.items()},
                **{log: changelog_spec(settings, brokers, log, count) for log, count in logs.items()},
            }
        )
        refuse_misfits(marks | logs, await self._partition_counts(marks | logs))

    async def _create(self, wanted_of: WantedTopics) -> None:
        await create(self._environment, wanted_of, self.app.broker_patience_s)

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
            await self._engine.timers.end_all(_TIMERS_END_WITHIN_S)
        if self._group is not None:
            await self._group.close()
        failpoint("shutdown.before_commit")
        if self._engine is not None and self._engine.membership is not None:
            await self._engine.commit_all()

    async def on_stop(self) -> None:
        if self._engine is not None and self._engine.after_commit is not None:
            await self._engine.after_commit.close()
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        if self._group is not None:
            await self._group.close()
        if self._member is not None:
            # Without a subscription there is no seat, and none to be asked for.
            leaves = bool(self._work) and self.app.gives_seat_back and self.app.failure is None
            seat = self._member.membership if leaves else None
            await self._member.close()  # a member without INSTANCE leaves by this
            if seat is not None and self._cluster is not None:
                await give_back(self._cluster, seat, self._environment.clock)
        if self._cluster is not None:
            await self._cluster.close()
        if self._state is not None:
            self._state.close()
        self.app.engine = self.app.session = None

    def end(self, exc: BaseException) -> None:
        """End the worker with an error; the first one is the reason."""
        logger.critical("%s", exc, exc_info=None if isinstance(exc, StreamAppError) else exc)
        if self.app.failure is not None:
            return
        self.app.failure = exc
        self.add_future(self.crash(exc))

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


class Transport(faust_aiokafka.Transport):
    """Faust's transport by our engine: consumer, conductor, and Faust's own producer for sends outside of events."""

    Consumer = WorkerService
    Conductor = Conductor
