"""What an assignment asks for before its tasks may run (decision 13): where to read on, and complete tables."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from faust.types.tuples import TP

from streamapp.delivery import dead_letter, late
from streamapp.delivery.after_commit import TABLE as INTENTS
from streamapp.delivery.inbox import TABLE as INBOX
from streamapp.driver import stamps
from streamapp.driver.streams.dispatch import TopicDispatcher
from streamapp.driver.tables.after_commit import run_intent
from streamapp.driver.tables.inbox import InboxTable
from streamapp.engine.after_commit import AfterCommit
from streamapp.engine.engine import Engine
from streamapp.engine.environment import Environment
from streamapp.engine.failure import unfit
from streamapp.engine.restore import Restoring, restore_stores
from streamapp.engine.starting_offsets import starting_offsets
from streamapp.engine.task import Task
from streamapp.engine.worker_state import State
from streamapp.eos.cluster import Cluster
from streamapp.eos.protocol import TopicDescription
from streamapp.errors import ConfigurationError, RecordError
from streamapp.failpoints import failpoint
from streamapp.state import StoreIdentity, TablePartition
from streamapp.types import Partition


class Assignment:
    """Makes the tasks of each assignment of one worker, one assignment at a time. Stores that stay ours stay open."""

    def __init__(self, app: Any, engine: Engine, cluster: Cluster, state: State, environment: Environment) -> None:
        #: Topics the worker reads; those without a partition here are looked at, too.
        self.subscribed: list[str] = []
        self.restoring = Restoring()
        self._app = app
        self._engine = engine
        self._cluster = cluster
        self._state = state
        self._environment = environment
        self._stores: dict[Partition, TablePartition] = {}

    async def prepare(self, partitions: Collection[Partition]) -> list[Task]:
        """The tasks of these partitions: their tables restored, their offsets where to read on.

        Raises `ConfigurationError` for what was deleted or changed under the worker, which then ends.
        """
        app, engine = self._app, self._engine
        producer = engine.producer
        tps = {TP(*partition) for partition in partitions}
        revoked, newly = app._update_assignment(tps)
        await app.agents.on_rebalance(revoked, newly)
        await app.topics.on_partitions_assigned(tps)
        consumed = {partition.topic for partition in partitions}
        late_topics = {topic + late.SUFFIX for table in app.windowed_tables for topic in table.topics}
        for topic in (app.declared_topics.keys() | late_topics) - consumed:
            await producer.ensure(topic)
        windowed = {topic for table in app.windowed_tables for topic in table.topics}
        inputs = await self._looked_at(sorted({*self.subscribed, *consumed}), windowed)
        assert engine.positions is not None
        engine.positions.inputs = inputs
        await self._refuse_senders_stamps({*self.subscribed, *consumed})
        failpoint("assign.before_offsets")
        counts = {topic: (await producer.ensure(topic)).partition_count for topic in sorted(consumed)}
        offsets = await self._starting_offsets(partitions, counts)
        failpoint("assign.before_restore")
        tasks: dict[tuple[int, int], Task] = {}
        for partition in sorted(partitions):
            count = counts[partition.topic]
            task = tasks.get((count, partition.number))
            if task is None:
                task = tasks[count, partition.number] = Task(partition.number, engine.gate, engine, {})
            channels = app.topics.channels(*partition)
            task.routes[partition.topic] = TopicDispatcher(app, partition.topic, count, channels)
            task.read_from(partition, offsets[partition])
        await self._restore(tasks)
        return list(tasks.values())

    async def _looked_at(self, topics: Iterable[str], windowed: Collection[str]) -> dict[str, TopicDescription]:
        """The inputs as they are now. `ConfigurationError` with every one that is gone, or whose side topics are unfit.

        How many partitions a side topic has does not matter: a letter goes to the source's number modulo their count.
        """
        producer, found, problems = self._engine.producer, {}, []
        for topic in topics:
            names = [topic + dead_letter.SUFFIX, *([topic + late.SUFFIX] if topic in windowed else [])]
            try:
                found[topic] = await producer.renew(topic)
                sides = [await producer.renew(name) for name in names]
            except RecordError as exc:
                problems.append(
                    f"{topic} or {' or '.join(names)} was deleted under this worker: {exc} What was committed stands. "
                    "If that was meant, start again, which creates them anew; else stop all workers first and bring "
                    "them back."
                )
            else:
                problems += [problem for side in sides if (problem := unfit(side))]
        if problems:
            raise ConfigurationError(*problems)
        return found

    async def _refuse_senders_stamps(self, topics: Collection[str]) -> None:
        """`ConfigurationError` with every topic whose stamps are its senders', which marks or windows would go by."""
        app, producer = self._app, self._engine.producer
        marks = app.tables.get(INBOX)
        inboxes = marks.topics if isinstance(marks, InboxTable) else set()
        windows = {topic for table in app.windowed_tables for topic in table.topics}
        kept = {marks.changelog_topic_name} if isinstance(marks, InboxTable) else set()
        described = {topic: await producer.ensure(topic) for topic in sorted({*topics, *kept})}
        problems = stamps.problems(
            (topic for topic, found in described.items() if not found.append_time),
            inboxes=inboxes,
            windows=windows,
            changelogs=kept,
            declared=app.sender_stamped,
        )
        if problems:
            raise ConfigurationError(*problems)

    async def _starting_offsets(
        self, partitions: Collection[Partition], counts: Mapping[str, int]
    ) -> dict[Partition, int]:
        """Where to read each partition on from; what its task's tables hold decides where nothing else is known."""
        engine, positions = self._engine, self._engine.positions
        assert positions is not None
        await positions.prepare(engine.producer)
        positions.topic_ids = {topic: (await engine.producer.ensure(topic)).topic_id for topic in sorted(counts)}
        log_counts = {log: (await engine.producer.ensure(log)).partition_count for log in self._changelogs().values()}
        logs_of = {
            at: [Partition(log, at.number) for log, count in log_counts.items() if count == counts[at.topic]]
            for at in partitions
        }
        group = self._app.settings.id
        return await starting_offsets(self._cluster, self._environment, group, positions, logs_of, counts)

    def _changelogs(self) -> dict[str, str]:
        return {name: table.changelog_topic_name for name, table in self._app.tables.items()}

    def _new_after_commit(self, engine: Engine) -> AfterCommit:
        handlers = self._app.intent_handlers
        return AfterCommit(
            lambda intent: run_intent(handlers, intent),
            engine.gate,
            self._environment.clock,
            finished=engine.finished,
            count=engine.count,
            crash=self._app.end,
        )

    async def _restore(self, tasks: Mapping[tuple[int, int], Task]) -> None:
        engine, app = self._engine, self._app
        engine.owned.changelogs = self._changelogs()
        if engine.after_commit is None and INTENTS in app.tables:
            engine.use_after_commit(self._new_after_commit(engine))
        retentions_s = {name: math.ceil(t.retention_s) for name, t in app.tables.items() if isinstance(t, InboxTable)}
        wanted: dict[Partition, StoreIdentity] = {}
        owner: dict[Partition, tuple[Task, str]] = {}
        for table, changelog in engine.changelogs.items():
            table_count = (await engine.producer.ensure(changelog)).partition_count
            for (count, number), task in tasks.items():
                if count == table_count:
                    log = Partition(changelog, number)
                    wanted[log] = StoreIdentity(app.settings.id, table, number, changelog)
                    owner[log] = (task, table)
        for log in self._stores.keys() - wanted.keys():
            self._stores.pop(log).close()
        await restore_stores(
            wanted, self._state, self._cluster, self._environment, self._stores, retentions_s, self.restoring
        )
        for log, store in self._stores.items():
            task, table = owner[log]
            task.stores[table] = store
