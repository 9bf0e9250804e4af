"""Who is asked: leaders and coordinators are remembered, and looked up again when an answer disproves them."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import aiokafka.errors
import pytest
from aiokafka.client import CoordinationType

from streamapp.client.cluster import KafkaCluster
from streamapp.eos.cluster import NoAnswer
from streamapp.eos.protocol import (
    Code,
    EndTxn,
    ListedOffset,
    ListOffsets,
    Membership,
    OffsetFetch,
    OffsetOf,
    Produce,
    ProducerIdentity,
    TxnOffsetCommit,
)
from streamapp.errors import ConfigurationError
from streamapp.types import Partition

LEDGER = Partition("ledger", 0)
SEAT = Membership("app", 1, "m")
END = EndTxn("app-1", ProducerIdentity(1, 0), True)
PRODUCE = Produce("app-1", 1000, {LEDGER: b"records"})


class Client:
    """aiokafka's client as far as the cluster uses it; who leads and coordinates is set by the test."""

    def __init__(self) -> None:
        self.known = {1, 2}
        self.leader = 1
        self.coordinator = 2
        self.coordinator_error = 0
        self.codes: deque[Any] = deque()
        self.sent: list[tuple[int, str, Any]] = []
        self.refreshed = 0
        address = SimpleNamespace(host="broker", port=9092)
        self.cluster = SimpleNamespace(broker_metadata=lambda node: address if node in self.known else None)

    def get_random_node(self) -> int | None:
        return min(self.known, default=None)

    async def force_metadata_update(self) -> None:
        self.refreshed += 1
        self.known |= {self.leader, self.coordinator}

    async def send(self, node: int, request: Any) -> Any:
        kind = type(request).__name__
        self.sent.append((node, kind, request))
        if kind == "FindCoordinatorRequest":
            return SimpleNamespace(error_code=self.coordinator_error, coordinator_id=self.coordinator)
        if kind == "TopicsRequest":
            partitions = [(0, 0, self.leader, 3, [], [], [], {})]
            return SimpleNamespace(topics=[(0, topic, "id", False, partitions, 0, {}) for topic in request._topics])
        code = self.codes.popleft() if self.codes else 0
        if isinstance(code, Exception):
            raise code
        return {
            "EndTxnRequest": SimpleNamespace(error_code=code, producer_id=1, producer_epoch=1),
            "ProduceRequest": SimpleNamespace(topics=[("ledger", [(0, code, 7, -1, 0, [], None, {})], {})]),
            "TxnOffsetCommitRequest": SimpleNamespace(topics=[("ledger", [(0, code, {})], {})]),
            "OffsetFetchRequest": SimpleNamespace(error_code=code, topics=[]),
            "OffsetRequest": SimpleNamespace(topics=[("ledger", [(0, code, -1, 5)])]),
        }[kind]

    def asked(self, kind: str) -> list[int]:
        return [node for node, name, _ in self.sent if name == kind]


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def cluster(client: Client) -> KafkaCluster:
    return KafkaCluster(client)


@pytest.mark.parametrize("code", [Code.NOT_COORDINATOR, Code.COORDINATOR_NOT_AVAILABLE, Code.NETWORK_EXCEPTION])
async def test_a_coordinator_is_remembered_until_it_says_it_is_none(
    client: Client, cluster: KafkaCluster, code: Code
) -> None:
    for _ in range(3):
        await cluster.end_transaction(END)
    assert client.asked("EndTxnRequest") == [2, 2, 2]
    assert len(client.asked("FindCoordinatorRequest")) == 1
    client.codes.append(code)
    assert (await cluster.end_transaction(END)).error == code, "answered once, never repeated by the cluster"
    client.coordinator = 1
    assert (await cluster.end_transaction(END)).error == 0
    assert client.asked("EndTxnRequest")[-2:] == [2, 1]


async def test_transaction_and_group_have_each_their_coordinator(client: Client, cluster: KafkaCluster) -> None:
    await cluster.end_transaction(END)
    client.coordinator = 1
    await cluster.commit_offsets(TxnOffsetCommit("app-1", ProducerIdentity(1, 0), SEAT, {LEDGER: 1}))
    await cluster.fetch_offsets(OffsetFetch("app", (LEDGER,)))
    assert client.asked("TxnOffsetCommitRequest") == client.asked("OffsetFetchRequest") == [1]
    looked_up = [request for _, kind, request in client.sent if kind == "FindCoordinatorRequest"]
    assert [(one._coordinator_key, one._coordinator_type) for one in looked_up] == [
        ("app-1", CoordinationType.TRANSACTION),
        ("app", CoordinationType.GROUP),
    ]


@pytest.mark.parametrize("code", [Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Code.COORDINATOR_NOT_AVAILABLE])
async def test_the_error_of_a_look_up_is_the_answer(client: Client, cluster: KafkaCluster, code: Code) -> None:
    client.coordinator_error = code
    assert (await cluster.end_transaction(END)).error == code
    offsets = await cluster.commit_offsets(TxnOffsetCommit("app-1", ProducerIdentity(1, 0), SEAT, {LEDGER: 1}))
    assert offsets == {LEDGER: code}
    assert (await cluster.fetch_offsets(OffsetFetch("app", (LEDGER,)))).error == code
    client.coordinator_error = 0
    assert (await cluster.end_transaction(END)).error == 0


@pytest.mark.parametrize(
    "lost",
    [
        aiokafka.errors.KafkaConnectionError("closed"),
        aiokafka.errors.NodeNotReadyError("away"),
        aiokafka.errors.RequestTimedOutError(),
        ConnectionResetError("reset"),
        KeyError((2, 0)),
    ],
)
async def test_a_lost_connection_is_no_answer_and_the_node_is_not_trusted_any_more(
    client: Client, cluster: KafkaCluster, lost: Exception
) -> None:
    await cluster.end_transaction(END)
    client.codes.append(lost)
    with pytest.raises(NoAnswer, match=r"EndTxnRequest to node 2 \(broker:9092\)"):
        await cluster.end_transaction(END)
    client.coordinator = 1
    await cluster.end_transaction(END)
    assert client.asked("EndTxnRequest") == [2, 2, 1]


@pytest.mark.parametrize("code", [Code.NOT_LEADER_OR_FOLLOWER, Code.UNKNOWN_TOPIC_OR_PARTITION, NoAnswer])
async def test_a_leader_is_remembered_until_it_says_it_is_none(
    client: Client, cluster: KafkaCluster, code: Any
) -> None:
    for _ in range(3):
        assert await cluster.leaders([LEDGER]) == {LEDGER: 1}
    assert len(client.asked("TopicsRequest")) == 1
    client.leader = 2
    if code is NoAnswer:
        client.codes.append(aiokafka.errors.KafkaConnectionError("closed"))
        with pytest.raises(NoAnswer):
            await cluster.produce(1, PRODUCE)
    else:
        client.codes.append(code)
        assert (await cluster.produce(1, PRODUCE))[LEDGER].error == code
    assert await cluster.leaders([LEDGER]) == {LEDGER: 2}


async def test_a_partition_without_a_leader_is_left_out_and_asked_for_again(
    client: Client, cluster: KafkaCluster
) -> None:
    client.leader = -1
    assert await cluster.leaders([LEDGER]) == {}
    listed = await cluster.list_offsets(ListOffsets((LEDGER,), OffsetOf.HIGH_WATERMARK))
    assert listed == {LEDGER: ListedOffset(Code.LEADER_NOT_AVAILABLE)}
    client.leader = 2
    assert await cluster.leaders([LEDGER]) == {LEDGER: 2}


async def test_a_refused_offset_look_up_forgets_its_leader(client: Client, cluster: KafkaCluster) -> None:
    client.codes.append(Code.NOT_LEADER_OR_FOLLOWER)
    assert (await cluster.list_offsets(ListOffsets((LEDGER,), OffsetOf.EARLIEST)))[LEDGER].error == 6
    client.leader = 2
    assert await cluster.list_offsets(ListOffsets((LEDGER,), OffsetOf.EARLIEST)) == {LEDGER: ListedOffset(0, 5)}
    assert client.asked("OffsetRequest") == [1, 2]


async def test_a_look_up_never_creates_a_topic(client: Client, cluster: KafkaCluster) -> None:
    await cluster.leaders([LEDGER])
    (request,) = [request for _, kind, request in client.sent if kind == "TopicsRequest"]
    assert request.prepare({3: (0, 99)}).allow_auto_topic_creation is False


async def test_a_node_that_joined_later_is_made_known_to_the_client(client: Client, cluster: KafkaCluster) -> None:
    client.leader = 3
    assert await cluster.leaders([LEDGER]) == {LEDGER: 3}
    assert client.refreshed == 1
    client.coordinator = 4
    await cluster.end_transaction(END)
    assert client.refreshed == 2


async def test_without_any_known_broker_there_is_no_answer(client: Client, cluster: KafkaCluster) -> None:
    client.known = set()
    with pytest.raises(NoAnswer):
        await cluster.leaders([LEDGER])


@pytest.mark.parametrize("old", [aiokafka.errors.IncompatibleBrokerVersion("no"), NotImplementedError("no")])
async def test_a_broker_without_the_versions_is_a_matter_of_configuration(
    client: Client, cluster: KafkaCluster, old: Exception
) -> None:
    client.codes.append(old)
    with pytest.raises(ConfigurationError, match="EndTxnRequest"):
        await cluster.end_transaction(END)
