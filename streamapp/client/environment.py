"""The real environment of a worker: Kafka by aiokafka's clients, a state directory, the machine's clock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import aiokafka
import aiokafka.errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from streamapp.client.cluster import LOST, KafkaCluster, connect, security_options
from streamapp.client.fetch import FetchResults
from streamapp.client.member import KafkaMember
from streamapp.client.refusals import may_not_read, not_created
from streamapp.clock import SYSTEM_CLOCK, Clock
from streamapp.engine.environment import WantedTopics
from streamapp.engine.record import Record
from streamapp.engine.worker_state import State, opened_state
from streamapp.errors import ConfigurationError, Unavailable
from streamapp.settings import Settings
from streamapp.types import Partition

_CHANGELOG_WAIT_MS = 100


class KafkaEnvironment:
    """An `Environment`. `assignor` is aiokafka's partition assignor of the group."""

    clock: Clock = SYSTEM_CLOCK

    def __init__(self, settings: Settings, assignor: Any) -> None:
        self._settings = settings
        self._assignor = assignor
        self._options = {"bootstrap_servers": settings.broker, **security_options(settings)}
        self._cluster: KafkaCluster | None = None

    def open_state(self) -> State:
        return opened_state(self._settings)

    async def connect(self) -> KafkaCluster:
        self._cluster = await connect(self._settings.broker, security=security_options(self._settings))
        return self._cluster

    def member(self, due_in_s: Callable[[], float]) -> KafkaMember:
        assert self._cluster is not None
        return KafkaMember(self._settings, self._assignor, self._options, due_in_s, self._cluster)

    async def changelogs(self, starts: Mapping[Partition, int]) -> KafkaFetches:
        consumer = aiokafka.AIOKafkaConsumer(
            group_id=None,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=4 << 20,
            **self._options,
        )
        try:
            with _as_unavailable():
                await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        consumer._fetcher._records = FetchResults(consumer._fetcher._records)
        consumer.assign([TopicPartition(*partition) for partition in starts])
        for partition, offset in starts.items():
            consumer.seek(TopicPartition(*partition), offset)
        return KafkaFetches(consumer)

    async def create_topics(self, wanted_of: WantedTopics) -> Iterable[str]:
        admin = AIOKafkaAdminClient(**self._options)
        try:
            with _as_unavailable():
                await admin.start()
                existing = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
                cluster = await admin.describe_cluster()
            # A broker that its controller has fenced answers, and names none that would take a request.
            if not cluster["brokers"] or cluster["controller_id"] < 0:
                raise Unavailable("it names no broker that is in service")
            wanted = wanted_of(len(cluster["brokers"]), existing)
            missing = [topic for name, topic in wanted.items() if name not in existing]
            if missing:
                with _as_unavailable():
                    await _create(admin, missing)
            return [topic.name for topic in missing]
        finally:
            await admin.close()


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    """A request of aiokafka's clients that got no answer, or no connection, is one to be made again."""
    try:
        yield
    except LOST as exc:
        raise Unavailable(str(exc) or type(exc).__name__) from exc


#: Why a topic is not created now and may be soon; as many copies as there are brokers are too many while one is fenced.
_NOT_YET = (
    aiokafka.errors.NotControllerError,
    aiokafka.errors.InvalidReplicationFactorError,
    aiokafka.errors.RequestTimedOutError,
)


async def _create(admin: Any, missing: Collection[Any]) -> None:
    answer = await admin.create_topics(
        [
            NewTopic(topic.name, topic.partitions, topic.replication_factor, topic_configs=dict(topic.config))
            for topic in missing
        ]
    )
    for name, code, *rest in answer.topic_errors:
        error, reason = aiokafka.errors.for_code(code), f"{name}: {rest[0] if rest else ''}"
        if error in _NOT_YET:
            raise Unavailable(reason)
        if error not in (aiokafka.errors.NoError, aiokafka.errors.TopicAlreadyExistsError):
            raise ConfigurationError(not_created(reason, error))


class KafkaFetches:
    """`ChangelogFetches` by a consumer without a group."""

    def __init__(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def fetch(self, record_limit: int) -> Mapping[Any, list[Record]]:
        try:
            fetched: Mapping[Any, list[Record]] = await self._consumer.getmany(
                timeout_ms=_CHANGELOG_WAIT_MS, max_records=record_limit
            )
        except aiokafka.errors.TopicAuthorizationFailedError as exc:
            raise ConfigurationError(may_not_read(exc)) from exc
        return fetched

    async def position(self, partition: Partition) -> int:
        position: int = await self._consumer.position(TopicPartition(*partition))
        return position

    async def close(self) -> None:
        await self._consumer.stop()
