"""The rights that docs/permissions.md lists: a worker with exactly these works, and without any of them it says so."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)

from streamapp import inbox
from streamapp.app import App
from streamapp.errors import StreamAppError
from streamapp.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from guarded_kafka import PASSWORD, USER, GuardedKafka

pytestmark = pytest.mark.kafka
WAIT_S = 60.0
Rights = frozenset[tuple[str, str, str]]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    cluster = GuardedKafka(tmp_path_factory.mktemp("guarded"))
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.kill()


def rights(prefix: str) -> Rights:
    """What docs/permissions.md lists for the app below: (resource, name, operation); one that ends in - is a prefix."""
    own = f"{prefix}-app-"
    topics = {
        f"{prefix}-in": ["READ"],
        f"{prefix}-out": ["WRITE"],
        f"{prefix}-in-dlt": ["WRITE"],
        own: ["READ", "WRITE"],
    }
    listed = [("TOPIC", name, right) for name, given in topics.items() for right in (*given, "DESCRIBE_CONFIGS")]
    return frozenset([*listed, ("GROUP", f"{prefix}-app", "READ"), ("TRANSACTIONAL_ID", own, "WRITE")])


def to_create(prefix: str) -> list[tuple[str, str, str]]:
    return [("TOPIC", name, "CREATE") for kind, name, _ in rights(prefix) if kind == "TOPIC"]


class Broker:
    """The super user's side."""

    def __init__(self, kafka: GuardedKafka) -> None:
        self._bootstrap = kafka.bootstrap
        self._admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def allow(self, given: Iterable[tuple[str, str, str]]) -> None:
        """Exactly these rights, in force when it returns."""
        every = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        for future in self._admin.delete_acls([every]).values():
            future.result(WAIT_S)
        wanted = {_acl(*right) for right in given}
        for future in self._admin.create_acls(list(wanted)).values():
            future.result(WAIT_S)
        until = time.monotonic() + WAIT_S
        while set(self._admin.describe_acls(every).result(WAIT_S)) != wanted:
            assert time.monotonic() < until
            time.sleep(0.02)

    def create(self, topics: Iterable[str]) -> None:
        config = {"message.timestamp.type": "LogAppendTime"}
        for future in self._admin.create_topics([NewTopic(name, 1, 1, config=config) for name in topics]).values():
            future.result(WAIT_S)

    def topics(self) -> set[str]:
        return set(self._admin.list_topics(timeout=WAIT_S).topics)

    def send(self, topic: str, value: bytes) -> None:
        producer = Producer({"bootstrap.servers": self._bootstrap})
        producer.produce(topic, value, b"k")
        assert producer.flush(WAIT_S) == 0

    def count(self, topic: str) -> int:
        """Records and markers of a topic that may not be there yet, or have no leader yet."""
        if topic not in self.topics():
            return 0
        partition = TopicPartition(topic, 0)
        try:
            return int(self._admin.list_offsets({partition: OffsetSpec.latest()})[partition].result(WAIT_S).offset)
        except KafkaException as exc:
            if exc.args[0].code() not in (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE):
                raise
            return 0


def _acl(resource: str, name: str, operation: str) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if name.endswith("-") else ResourcePatternType.LITERAL
    return AclBinding(
        getattr(ResourceType, resource),
        name,
        pattern,
        f"User:{USER}",
        "*",
        getattr(AclOperation, operation),
        AclPermissionType.ALLOW,
    )


def app(kafka: GuardedKafka, prefix: str) -> App:
    made = App(
        settings=Settings(
            broker=kafka.guarded,
            id=f"{prefix}-app",
            store="memory",
            partitions=1,
            commit_interval=0.05,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_username=USER,
            sasl_password=PASSWORD,
        ),
        autodiscover=False,
    )
    made.broker_patience_s = 2.0
    spent = made.Table("spent", default=int)
    out = made.topic(f"{prefix}-out")

    @made.agent(made.topic(f"{prefix}-in"))
    @inbox(aggregate_type="ORDER", event_type="ORDER_ADD", event_id="id")
    async def add_up(stream: Any) -> None:
        async for order in stream:
            if order["id"] == "bad":
                raise ValueError("a bad one")
            spent["all"] += 1
            await out.send(key="all", value=spent["all"])

    return made


async def outcome(broker: Broker, kafka: GuardedKafka, prefix: str) -> BaseException | None:
    """Why a worker that is fed a good and a bad record ended; None: it has sent an output and a dead letter."""
    made, results = app(kafka, prefix), [f"{prefix}-out", f"{prefix}-in-dlt"]
    before = {name: broker.count(name) for name in results}
    ended: BaseException | None = None
    made.finalize()
    try:
        async with asyncio.timeout(WAIT_S):
            await made.start()
            broker.send(f"{prefix}-in", b'{"id":"%d"}' % time.monotonic_ns())
            broker.send(f"{prefix}-in", b'{"id":"bad"}')
            while made.failure is None and any(  # noqa: ASYNC110 - nothing tells
                broker.count(name) <= before[name] for name in results
            ):
                await asyncio.sleep(0.05)
    except Exception as exc:  # noqa: BLE001 - the test judges it
        ended = exc
    finally:
        async with asyncio.timeout(WAIT_S):
            await made.stop()
    return made.failure or ended


WHAT = {"READ": "Read", "WRITE": "Write", "DESCRIBE_CONFIGS": "DescribeConfigs"}


async def test_a_worker_with_the_listed_rights_works_and_without_one_of_them_says_which(
    guarded: GuardedKafka, topic_prefix: str
) -> None:
    broker, whole = Broker(guarded), rights(topic_prefix)
    broker.create([f"{topic_prefix}-in"])
    broker.allow([*whole, *to_create(topic_prefix)])
    assert await outcome(broker, guarded, topic_prefix) is None
    for right in sorted(whole):
        kind, name, operation = right
        for instead in ([], [(kind, name, "DESCRIBE")]):  # Read and Write include it
            broker.allow([*(whole - {right}), *instead])
            ended = await outcome(broker, guarded, topic_prefix)
            assert isinstance(ended, StreamAppError), (right, instead, ended)
            assert name in str(ended) and "docs/permissions.md" in str(ended), (right, instead, str(ended))
            if instead or kind != "TOPIC" or operation == "DESCRIBE_CONFIGS":
                assert WHAT[operation] in str(ended), (right, instead, str(ended))
    broker.allow(whole)
    assert await outcome(broker, guarded, topic_prefix) is None


async def test_topics_are_created_with_the_right_to_create_them_and_named_without(
    guarded: GuardedKafka, topic_prefix: str
) -> None:
    broker, whole = Broker(guarded), rights(topic_prefix)
    broker.create([f"{topic_prefix}-in"])
    broker.allow(whole)
    ended = await outcome(broker, guarded, topic_prefix)
    assert isinstance(ended, StreamAppError) and "Allow Create on it" in str(ended), ended
    broker.allow([*whole, *to_create(topic_prefix)])
    assert await outcome(broker, guarded, topic_prefix) is None
    assert {f"{topic_prefix}-in-dlt", f"{topic_prefix}-app-spent-changelog"} <= broker.topics()


def test_the_page_lists_what_the_test_allows() -> None:
    page = (Path(__file__).parents[2] / "docs" / "permissions.md").read_text()
    rows = re.findall(r"^\| (Topic|Group|TransactionalId) \|.*?\| ([A-Za-z, ]+) \|$", page, re.MULTILINE)
    listed = {(kind, operation) for kind, operations in rows for operation in operations.split(", ")}
    kinds = {"TOPIC": "Topic", "GROUP": "Group", "TRANSACTIONAL_ID": "TransactionalId"}
    assert listed == {(kinds[kind], WHAT[operation]) for kind, _, operation in rights("x")} | {("Topic", "Create")}


def command(kafka: GuardedKafka, *arguments: str) -> tuple[int, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("STREAMAPP_")}
    security = {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN"}
    given = {"BROKER": kafka.guarded, **security, "SASL_USERNAME": USER, "SASL_PASSWORD": PASSWORD, "STORE": "memory"}
    run = subprocess.run(
        [sys.executable, "-m", "streamapp.cli", *arguments],
        env=plain | {f"STREAMAPP_{name}": value for name, value in given.items()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in run.stderr
    return run.returncode, run.stdout + run.stderr


def test_commands_of_a_user_without_rights_say_what_he_lacks(guarded: GuardedKafka) -> None:
    Broker(guarded).allow([("GROUP", "another", "READ")])
    code, text = command(guarded, "check")
    assert code == 1 and "Allow this user DescribeConfigs on the cluster" in text
    code, text = command(guarded, "topics", "apply")
    assert code == 1 and "uthorization failed" in text, text
