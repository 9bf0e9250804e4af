"""The campaign's own view of Kafka, through confluent-kafka: topics anew for each shot, input, progress, offsets."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from campaign.transfers import Input
from streamapp import settings as settings_
from streamapp import topics

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from group_offsets import GroupOffsets

#: Topics a worker consumes.
INPUTS = ("transfer", "balances")
_ANSWER_S = 60.0
_TRICKLE_S = 0.15


class Cluster:
    """One broker, used by one shot at a time: the contract fixes the topics' names, so each shot makes them anew."""

    def __init__(self, bootstrap: str, partitions: int = 4) -> None:
        self.bootstrap = bootstrap
        self.partitions = partitions
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        #: Of the group that was asked for last.
        self._offsets: GroupOffsets | None = None
        self._made: list[str] = []

    def make_topics(self, app: str, *more: str) -> list[str]:
        """The contract's topics and `more`, empty, with the changelogs of `app`. What was there is deleted."""
        existing = self._admin.list_topics(timeout=_ANSWER_S).topics
        if leftover := [name for name in existing if not name.startswith("__")]:
            for future in self._admin.delete_topics(leftover, operation_timeout=_ANSWER_S).values():
                future.result(_ANSWER_S)
        settings = settings_.Settings(broker=self.bootstrap, id=app, partitions=self.partitions)
        wanted = (*topics.specs(settings, 1), *(topics.spec(settings, 1, name) for name in more))
        new = [
            NewTopic(it.name, it.partitions, it.replication_factor, config={k: str(v) for k, v in it.config.items()})
            for it in wanted
        ]
        give_up = time.monotonic() + _ANSWER_S
        while new:
            missing = []
            for topic, future in zip(new, self._admin.create_topics(new).values(), strict=True):
                try:
                    future.result(_ANSWER_S)
                except KafkaException as exc:  # a name may still be in use for a moment after its deletion
                    if exc.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > give_up:
                        raise
                    missing.append(topic)
            new = missing
        self._made = [it.name for it in wanted]
        return self._made

    def configure(self, topic: str, **settings: object) -> None:
        """Change a topic's settings, so that the broker refuses what a worker has already taken in."""
        entries = [
            ConfigEntry(name.replace("_", "."), str(value), incremental_operation=AlterConfigOpType.SET)
            for name, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        for future in self._admin.incremental_alter_configs([resource]).values():
            future.result(_ANSWER_S)

    def committed(self, app: str, inputs: Sequence[str] = INPUTS) -> dict[tuple[str, int], int]:
        """The group's committed offsets of the inputs; 0 where there is none yet."""
        if self._offsets is None or self._offsets.group != app:
            self._close_offsets()
            self._offsets = GroupOffsets(self.bootstrap, app)
        return self._offsets.committed(inputs, self.partitions)

    def _close_offsets(self) -> None:
        if self._offsets is not None:
            self._offsets.close()

    def ends(self, names: Sequence[str], isolation: IsolationLevel) -> dict[tuple[str, int], int]:
        """The high watermark (read uncommitted) or the last stable offset (read committed) of every partition."""
        asked = {
            TopicPartition(name, number): OffsetSpec.latest() for name in names for number in range(self.partitions)
        }
        answers = self._admin.list_offsets(asked, isolation_level=isolation)
        return {(at.topic, at.partition): future.result(_ANSWER_S).offset for at, future in answers.items()}

    def records(self, names: Sequence[str]) -> list[Message]:
        """Every committed record of the topics, in the order of each partition."""
        return list(self.stream(names))

    def stream(self, names: Sequence[str]) -> Iterator[Message]:
        """As `records`, one at a time: there may be millions."""
        left = self.ends(names, IsolationLevel.READ_COMMITTED)
        reader = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "campaign",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "log_level": 0,
            }
        )
        try:
            reader.assign([TopicPartition(name, number, 0) for (name, number), end in left.items() if end])
            waiting = {at for at, end in left.items() if end}
            give_up = time.monotonic() + 2 * _ANSWER_S
            while waiting:
                if time.monotonic() > give_up:
                    raise TimeoutError(f"{waiting} could not be read to the end")
                for message in reader.consume(2000, 0.5):
                    error = message.error()
                    if error is None:
                        give_up = time.monotonic() + 2 * _ANSWER_S
                        yield message
                    elif error.code() == KafkaError._PARTITION_EOF:
                        waiting.discard((message.topic(), message.partition()))
                    else:
                        raise KafkaException(error)
        finally:
            reader.close()

    def close(self) -> None:
        self._close_offsets()


class Feed:
    """Sends the input: some at once, more beside the workers at a steady rate, the last of it behind the fault."""

    def __init__(
        self, bootstrap: str, inputs: Sequence[Input], per_second: float, behind: int, topic: str = "transfer"
    ) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "log_level": 0,
            }
        )
        self._inputs = list(inputs)
        self._held_from = len(self._inputs) - behind
        self._faulted = threading.Event()
        self._next = 0
        self._pause_s = 1 / per_second
        self._thread = threading.Thread(target=self._rest, name="feed", daemon=True)
        self._problem: BaseException | None = None

    def first(self, count: int) -> None:
        """Send this many now and wait until they are acknowledged."""
        self._send(count)
        if left := self._producer.flush(_ANSWER_S):
            raise TimeoutError(f"{left} input records were not acknowledged")

    def start(self) -> None:
        """Go on beside the workers; a second call does nothing."""
        if not self._thread.ident:
            self._thread.start()

    def join(self) -> None:
        """Wait until everything is acknowledged."""
        self.go_on()
        self._thread.join(60)
        if self._thread.is_alive() or self._problem is not None:
            raise RuntimeError(f"the feed did not finish: {self._problem}")

    def go_on(self) -> None:
        """The fault has happened: send the last of it, too."""
        self._faulted.set()

    def _rest(self) -> None:
        try:
            while self._next < len(self._inputs):
                if self._next < self._held_from or self._faulted.is_set():
                    self._send(10)
                    time.sleep(self._pause_s * 10)
                else:  # slowly, so that a worker that is not at its point yet still comes to it
                    self._send(1)
                    self._faulted.wait(_TRICKLE_S)
            self.first(0)
        except Exception as exc:  # noqa: BLE001 - told by join()
            self._problem = exc

    def _send(self, count: int) -> None:
        for item in self._inputs[self._next : self._next + count]:
            self._producer.produce(self._topic, key=item.key, value=item.value)
        self._next += count
        self._producer.poll(0)


def feed_at_once(bootstrap: str, topic: str, records: Iterable[tuple[str, bytes]]) -> None:
    """Keys and values in one transaction: whoever reads what is committed sees all of a partition's in one instant."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "transactional.id": "feed", "log_level": 0}
    )
    producer.init_transactions(_ANSWER_S)
    producer.begin_transaction()
    for key, value in records:
        producer.produce(topic, value, key.encode())
    producer.commit_transaction(_ANSWER_S)
