"""The cluster over aiokafka's connections: descriptions, routing, lost connections, refusals; and aiokafka's seams."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streamapp.client.cluster import KafkaCluster, connect, security_options
from streamapp.eos.cluster import NoAnswer
from streamapp.eos.protocol import (
    Code,
    EndTxn,
    InitProducerId,
    ListedOffset,
    ListOffsets,
    Membership,
    OffsetFetch,
    OffsetOf,
    Produce,
    ProducerIdentity,
    TopicDescription,
    TxnOffsetCommit,
)
from streamapp.errors import ConfigurationError, Unavailable
from streamapp.settings import load
from streamapp.types import Partition

pytestmark = pytest.mark.kafka

NOBODY = ProducerIdentity(2**40, 0)


@pytest.fixture
async def cluster(kafka: Any) -> AsyncIterator[KafkaCluster]:
    cluster = await connect(kafka.bootstrap, request_timeout_s=5)
    yield cluster
    await cluster.close()


def create(kafka: Any, topic: str, partitions: int = 3, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for future in admin.create_topics([NewTopic(topic, partitions, 1, config=config)]).values():
        future.result(60)


async def once_it_is_known(call: Callable[[], Awaitable[Any]]) -> Any:
    """The first answer without an error: a new topic or coordinator takes a moment to be known everywhere."""
    for _ in range(500):
        answer = await call()
        if answer.error == 0:
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(f"still {answer}")


async def test_a_topic_is_described_with_its_limits(kafka: Any, topic_prefix: str, cluster: KafkaCluster) -> None:
    config = {
        "max.message.bytes": "12345",
        "cleanup.policy": "compact,delete",
        "message.timestamp.type": "LogAppendTime",
        "message.timestamp.after.max.ms": "60000",
    }
    create(kafka, topic_prefix, **config)
    found = await once_it_is_known(lambda: cluster.describe_topic(topic_prefix))
    assert len(found.topic_id) == 22 and found.leader_epochs == (0, 0, 0)
    usual = TopicDescription(topic_prefix, 0, 3, 12345, True, True, 2**63 - 1, 60_000)
    assert found == usual._replace(topic_id=found.topic_id, leader_epochs=found.leader_epochs)


async def test_looking_for_a_topic_creates_none(topic_prefix: str, cluster: KafkaCluster) -> None:
    for _ in range(2):
        assert (await cluster.describe_topic(topic_prefix)).error == Code.UNKNOWN_TOPIC_OR_PARTITION
    nowhere = Partition(topic_prefix, 0)
    assert await cluster.leaders([nowhere]) == {}
    listed = await cluster.list_offsets(ListOffsets((nowhere,), OffsetOf.EARLIEST))
    assert listed == {nowhere: ListedOffset(Code.LEADER_NOT_AVAILABLE)}


async def test_the_cluster_speaks_transaction_protocol_two(cluster: KafkaCluster) -> None:
    assert (await cluster.features()).transaction_version >= 2


async def test_each_call_reaches_who_is_in_charge(kafka: Any, topic_prefix: str, cluster: KafkaCluster) -> None:
    """Calls of an identity nobody has: what is checked is that the right node reads the message and refuses it."""
    create(kafka, topic_prefix)
    partition = Partition(topic_prefix, 0)
    tid = topic_prefix
    answer = await once_it_is_known(lambda: cluster.init_producer_id(InitProducerId(tid, 1000)))
    assert answer.identity.epoch == 0
    assert (await cluster.end_transaction(EndTxn(tid, NOBODY, True))).error == Code.INVALID_PRODUCER_ID_MAPPING
    seat = Membership(topic_prefix, 3, "nobody")
    offsets = await cluster.commit_offsets(TxnOffsetCommit(tid, answer.identity, seat, {partition: 1}))
    assert offsets == {partition: Code.UNKNOWN_MEMBER_ID} or offsets == {partition: Code.ILLEGAL_GENERATION}
    fetched = await cluster.fetch_offsets(OffsetFetch(topic_prefix, (partition,)))
    assert fetched == (0, {partition: (0, -1)})


async def test_a_broken_connection_is_no_answer_and_the_next_call_makes_a_new_one(
    topic_prefix: str, cluster: KafkaCluster
) -> None:
    call = InitProducerId(topic_prefix, 1000)
    await once_it_is_known(lambda: cluster.init_producer_id(call))
    under_way = asyncio.create_task(cluster.init_producer_id(call))
    await asyncio.sleep(0)
    for connection in cluster._client._conns.values():
        connection.close()
    with pytest.raises(NoAnswer, match="InitProducerIdRequest"):
        await under_way
    assert (await cluster.init_producer_id(call)).error == 0


async def test_a_node_that_does_not_exist_is_no_answer(topic_prefix: str, cluster: KafkaCluster) -> None:
    with pytest.raises(NoAnswer):
        await cluster.produce(4711, Produce(topic_prefix, 1000, {Partition(topic_prefix, 0): b""}))


async def test_a_node_that_falls_silent_is_no_answer_after_the_time_out(kafka: Any, topic_prefix: str) -> None:
    cluster = await connect(kafka.bootstrap, request_timeout_s=2.0)
    call = InitProducerId(topic_prefix, 1000)
    try:
        await once_it_is_known(lambda: cluster.init_producer_id(call))
        for connection in cluster._client._conns.values():
            connection._writer.write = lambda _: None
        with pytest.raises(NoAnswer):
            await asyncio.wait_for(cluster.init_producer_id(call), 30)
        assert (await cluster.init_producer_id(call)).error == 0
    finally:
        await cluster.close()


async def test_two_calls_that_time_out_on_one_connection_are_both_no_answer(kafka: Any, topic_prefix: str) -> None:
    cluster = await connect(kafka.bootstrap, request_timeout_s=2.0)
    call = InitProducerId(topic_prefix, 1000)
    try:
        await once_it_is_known(lambda: cluster.init_producer_id(call))
        for connection in cluster._client._conns.values():
            connection._writer.write = lambda _: None
        outcomes = await asyncio.gather(*(cluster.init_producer_id(call) for _ in range(3)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {NoAnswer}
    finally:
        await cluster.close()


async def test_a_cancelled_call_leaves_the_connection_usable(topic_prefix: str, cluster: KafkaCluster) -> None:
    call = InitProducerId(topic_prefix, 1000)
    await once_it_is_known(lambda: cluster.init_producer_id(call))
    under_way = asyncio.create_task(cluster.init_producer_id(call))
    await asyncio.sleep(0)
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert (await cluster.init_producer_id(call)).error in (0, 51)
    assert (await cluster.features()).transaction_version >= 2


async def test_nobody_there_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
            await connect(f"127.0.0.1:{port}", request_timeout_s=1)


async def test_somebody_who_never_answers_is_unavailable() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable):
            await asyncio.wait_for(connect(f"127.0.0.1:{port}", request_timeout_s=0.3), 30)


async def test_a_broker_that_lacks_the_versions_is_refused(topic_prefix: str, cluster: KafkaCluster) -> None:
    assert (await cluster.features()).transaction_version
    for connection in cluster._client._conns.values():
        connection._versions[22] = (0, 4)
    with pytest.raises(ConfigurationError, match=r"Kafka 4\.0"):
        await once_it_is_known(lambda: cluster.init_producer_id(InitProducerId(topic_prefix, 1000)))


def test_security_settings_reach_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "SCRAM-SHA-256",
        "SASL_USERNAME": "app",
        "SASL_PASSWORD": "secret",
    }.items():
        monkeypatch.setenv(f"STREAMAPP_{name}", value)
    options = security_options(load())
    assert options.pop("ssl_context").check_hostname
    assert options == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "app",
        "sasl_plain_password": "secret",
    }
    monkeypatch.undo()
    assert security_options(load()) == {"security_protocol": "PLAINTEXT"}
