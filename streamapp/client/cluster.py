"""`Cluster` on a real Kafka, over aiokafka's connections: routing, look-ups, time-outs, and lost answers as `NoAnswer`.

Everything the engine reads of aiokafka beyond its documented calls is in this module and in `client/wire.py`:
`AIOKafkaClient.send/get_random_node/force_metadata_update/cluster`, `create_conn` and the `protocol` package.
`tests/integration/test_eos_connections.py` fails when they move.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import aiokafka.errors
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.conn import create_conn
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.protocol.admin import DescribeConfigsRequest, DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.protocol.offset import OffsetRequest

from streamapp.client import wire
from streamapp.client.diagnosis import found_at, mismatch
from streamapp.eos.cluster import NoAnswer
from streamapp.eos.protocol import (
    Code,
    EndTxn,
    EndTxnAnswer,
    EpochEnd,
    EpochEnds,
    Features,
    GroupDescription,
    GroupMember,
    InitProducerId,
    InitProducerIdAnswer,
    ListedOffset,
    ListOffsets,
    ListOffsetsAnswer,
    Membership,
    OffsetCommit,
    OffsetCommitAnswer,
    OffsetFetch,
    OffsetFetchAnswer,
    OffsetOf,
    Produce,
    ProduceAnswer,
    TopicDescription,
    TxnOffsetCommit,
    TxnOffsetCommitAnswer,
)
from streamapp.eos.remedies import REMEDIES, ErrorRemedy
from streamapp.errors import ConfigurationError, Unavailable
from streamapp.failpoints import failpoint
from streamapp.settings import Settings
from streamapp.types import Partition

#: What aiokafka raises when a request may or may not have reached its node. `KeyError`: two requests timed out on one
#: connection, and the second finds it replaced (aiokafka 0.14, client.py, `send`).
LOST = (
    aiokafka.errors.KafkaConnectionError,
    aiokafka.errors.NodeNotReadyError,
    aiokafka.errors.RequestTimedOutError,
    aiokafka.errors.CorrelationIdError,
    aiokafka.errors.StaleMetadata,
    OSError,
    KeyError,
)
#: What it raises when a broker does not take the credentials, or not in this way.
_REFUSED = (
    aiokafka.errors.AuthenticationFailedError,
    aiokafka.errors.SaslAuthenticationFailed,
    aiokafka.errors.UnsupportedSaslMechanismError,
    aiokafka.errors.IllegalSaslStateError,
)
_TOPIC_RESOURCE = 2
_TOPIC_CONFIGS = [
    "max.message.bytes",
    "cleanup.policy",
    "message.timestamp.type",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
]


def security_options(settings: Settings) -> dict[str, Any]:
    """The settings of the connection's security as aiokafka's clients take them."""
    options: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        if settings.ssl_certfile is not None:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
        options["ssl_context"] = context
    if settings.security_protocol.startswith("SASL") and settings.sasl_password is not None:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return options


async def connect(
    bootstrap: str,
    *,
    client_id: str = "streamapp",
    request_timeout_s: float = 5.0,
    security: Mapping[str, Any] | None = None,
) -> KafkaCluster:
    """Connect to the cluster behind `bootstrap` ("host:port", comma separated).

    `request_timeout_s`: after it a request counts as without answer. Raises `Unavailable` when no broker answers and
    `ConfigurationError` when one refuses the credentials.
    """
    options = {"client_id": client_id, "request_timeout_ms": int(request_timeout_s * 1000), **(security or {})}
    client = AIOKafkaClient(bootstrap_servers=bootstrap, **options)
    try:
        await client.bootstrap()
    except aiokafka.errors.KafkaConnectionError:
        await client.close()
        raise await _refusal(client, bootstrap, options) from None
    except BaseException:
        await client.close()
        raise
    if unreachable := await _unreachable(client, options):
        await client.close()
        raise Unavailable(
            f"Kafka at {bootstrap} answers, and no broker can be reached where it says it is: {unreachable}. Nothing "
            "was started. Set advertised.listeners of the brokers to addresses that this machine resolves and reaches."
        )
    return KafkaCluster(client)


async def _unreachable(client: Any, options: dict[str, Any]) -> str:
    """Which broker cannot be reached under its advertised address, and why; nothing where one can be."""
    brokers = client.cluster.brokers()
    for broker in brokers:
        if await client.ready(broker.nodeId):
            return ""
    return "; ".join([f"node {it.nodeId} at {await _reason(it.host, it.port, options)}" for it in brokers])


async def _reason(host: str, port: int, options: dict[str, Any]) -> str:
    try:
        (await create_conn(host, port, **options)).close()
    except (OSError, aiokafka.errors.KafkaError) as exc:
        return f"{host}:{port} ({str(exc) or type(exc).__name__})"
    return f"{host}:{port}"


async def _refusal(client: Any, bootstrap: str, options: dict[str, Any]) -> ConfigurationError:
    """Why nobody answered: aiokafka's bootstrap only logs it, so one more connection is tried for the reason."""
    reason = "no address given"
    for host, port, _ in client.hosts:
        protocol, mechanism = options.get("security_protocol", "PLAINTEXT"), options.get("sasl_mechanism")
        if wrong := mismatch(f"{host}:{port}", await found_at(host, port), protocol, mechanism):
            return ConfigurationError(wrong)
        try:
            connection = await create_conn(host, port, **options)
        except _REFUSED as exc:
            return ConfigurationError(
                f"{host}:{port} refused the credentials: {exc}. Check SECURITY_PROTOCOL and the SASL_ settings."
            )
        except ssl.SSLCertVerificationError as exc:
            return ConfigurationError(
                f"The certificate of {host}:{port} is not trusted: {exc.verify_message}. Nothing was started. Set "
                "STREAMAPP_SSL_CAFILE to the authority that signed it, and STREAMAPP_BROKER to a name that it is for."
            )
        except (OSError, aiokafka.errors.KafkaError) as exc:
            reason = f"{host}:{port}: {str(exc) or type(exc).__name__}"
        else:
            reason = f"{host}:{port}: it took the connection and answered nothing"
            connection.close()
    return Unavailable(
        f"No broker of {bootstrap} answered ({reason}). Nothing was started. Start Kafka, or set STREAMAPP_BROKER to "
        "where it is."
    )


class KafkaCluster:
    """A real cluster. Leaders and coordinators are remembered until an answer or a lost connection disproves them."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._leaders: dict[Partition, int] = {}
        self._coordinators: dict[tuple[CoordinationType, str], int] = {}

    async def close(self) -> None:
        await self._client.close()

    async def features(self) -> Features:
        return wire.features_answer(await self._send(self._any_node(), wire.ApiVersionsRequest()))

    async def describe_topic(self, topic: str) -> TopicDescription:
        found = (await self._look_up_leaders([topic]))[topic]
        if found.error != Code.NONE:
            return found
        request = DescribeConfigsRequest([(_TOPIC_RESOURCE, topic, _TOPIC_CONFIGS)])
        response = await self._send(self._any_node(), request)
        for code, _message, _kind, _name, entries in response.resources:
            if code != Code.NONE:
                return TopicDescription(topic, code)
            return _described(found, {name: value for name, value, *_ in entries})
        raise NoAnswer(f"The description of {topic} came back empty.")

    async def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        found = await self._look_up_leaders(topics)
        return {name: topic.topic_id for name, topic in found.items() if topic.error == Code.NONE}

    async def epoch_ends(self, epochs: Mapping[Partition, int]) -> EpochEnds:
        ends = dict.fromkeys(epochs, EpochEnd(Code.LEADER_NOT_AVAILABLE))
        by_node: dict[int, dict[Partition, int]] = {}
        for partition, node in (await self.leaders(tuple(epochs))).items():
            by_node.setdefault(node, {})[partition] = epochs[partition]
        for node, asked in by_node.items():
            ends.update(wire.epoch_ends_answer(await self._send(node, wire.EpochEndsRequest(asked))))
        for partition, end in ends.items():
            if end.error != Code.NONE:
                self._leaders.pop(partition, None)
        return ends

    async def leaders(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        missing = {partition.topic for partition in partitions if partition not in self._leaders}
        if missing:
            await self._look_up_leaders(sorted(missing))
        return {partition: self._leaders[partition] for partition in partitions if partition in self._leaders}

    async def init_producer_id(self, request: InitProducerId) -> InitProducerIdAnswer:
        error, node = await self._coordinator(CoordinationType.TRANSACTION, request.transactional_id)
        if error != Code.NONE:
            return InitProducerIdAnswer(error)
        response = await self._send(node, wire.InitProducerIdRequest(request))
        self._learn([response.error_code])
        return wire.init_producer_id_answer(response)

    async def produce(self, node: int, request: Produce) -> ProduceAnswer:
        try:
            answer = wire.produce_answer(await self._send(node, wire.ProduceRequest(request)))
        except NoAnswer:
            for partition in request.batches:
                self._leaders.pop(partition, None)
            raise
        for partition, produced in answer.items():
            if REMEDIES.get(produced.error) is ErrorRemedy.REROUTE:
                self._leaders.pop(partition, None)
        return answer

    async def commit_offsets(self, request: TxnOffsetCommit) -> TxnOffsetCommitAnswer:
        error, node = await self._coordinator(CoordinationType.GROUP, request.membership.group)
        if error != Code.NONE:
            return dict.fromkeys(request.offsets, error)
        answer = wire.txn_offset_commit_answer(await self._send(node, wire.TxnOffsetCommitRequest(request)))
        self._learn(answer.values())
        return answer

    async def commit_plain_offsets(self, request: OffsetCommit) -> OffsetCommitAnswer:
        """At least once: the group's own commit, outside of any transaction."""
        seat = request.membership
        error, node = await self._coordinator(CoordinationType.GROUP, seat.group)
        if error != Code.NONE:
            return dict.fromkeys(request.offsets, error)
        topics: dict[str, list[tuple[int, int, str]]] = {}
        for (topic, number), offset in request.offsets.items():
            topics.setdefault(topic, []).append((number, offset, ""))
        commit = OffsetCommitRequest(seat.group, seat.generation, seat.member_id, -1, list(topics.items()))
        response = await self._send(node, commit)
        answer = {Partition(topic, number): code for topic, rows in response.topics for number, code in rows}
        self._learn(answer.values())
        return answer

    async def describe_group(self, group: str) -> GroupDescription:
        """The members of a group as its coordinator has them now; while it is rebalanced nobody has partitions."""
        error, node = await self._coordinator(CoordinationType.GROUP, group)
        if error != Code.NONE:
            return GroupDescription(error, "", ())
        response = await self._send(node, DescribeGroupsRequest([group]))
        error, _group, state, _kind, _protocol, members, *_ = response.groups[0]
        self._learn([error])
        return GroupDescription(error, state, tuple(_member(metadata, owned) for *_, metadata, owned in members))

    async def leave_group(self, membership: Membership) -> int:
        """By the member id alone: a twin that has taken the seat has another, and keeps it."""
        error, node = await self._coordinator(CoordinationType.GROUP, membership.group)
        if error == Code.NONE:
            error = (await self._send(node, LeaveGroupRequest(membership.group, membership.member_id))).error_code
            self._learn([error])
        return error

    async def end_transaction(self, request: EndTxn) -> EndTxnAnswer:
        error, node = await self._coordinator(CoordinationType.TRANSACTION, request.transactional_id)
        if error != Code.NONE:
            return EndTxnAnswer(error)
        response = await self._send(node, wire.EndTxnRequest(request))
        self._learn([response.error_code])
        return wire.end_txn_answer(response)

    async def fetch_offsets(self, request: OffsetFetch) -> OffsetFetchAnswer:
        error, node = await self._coordinator(CoordinationType.GROUP, request.group)
        if error != Code.NONE:
            return OffsetFetchAnswer(error, {})
        response = await self._send(node, wire.OffsetFetchRequest(request))
        answer = wire.offset_fetch_answer(response)
        self._learn([answer.error, *(offset.error for offset in answer.offsets.values())])
        return answer

    async def list_offsets(self, request: ListOffsets) -> ListOffsetsAnswer:
        isolation, timestamp = (1, -1) if request.which is OffsetOf.LAST_STABLE else (0, int(request.which))
        listed = dict.fromkeys(request.partitions, ListedOffset(Code.LEADER_NOT_AVAILABLE))
        by_node: dict[int, dict[str, list[tuple[int, int]]]] = {}
        for (topic, number), node in (await self.leaders(request.partitions)).items():
            by_node.setdefault(node, {}).setdefault(topic, []).append((number, timestamp))
        for node, topics in by_node.items():
            newest = request.which is OffsetOf.NEWEST
            ask = wire.NewestOffsetRequest(topics) if newest else OffsetRequest(-1, isolation, list(topics.items()))
            response = await self._send(node, ask)
            for topic, partitions, *_ in response.topics:
                for number, code, stamp, offset, *_ in partitions:
                    listed[Partition(topic, number)] = ListedOffset(code, offset, stamp if newest else -1)
                    if code != Code.NONE:
                        self._leaders.pop(Partition(topic, number), None)
        return listed

    async def _send(self, node: int, request: Any) -> Any:
        name = type(request).__name__
        try:
            failpoint(f"send {name}")
            answer = await self._client.send(node, request)
            failpoint(f"answer {name}")
            return answer
        except LOST as exc:
            # What was learnt through a broken connection may be out of date: coordinators move when a node dies.
            self._forget_node(node)
            known = self._client.cluster.broker_metadata(node)
            where = f"node {node}" if known is None else f"node {node} ({known.host}:{known.port})"
            raise NoAnswer(f"{type(request).__name__} to {where}: {exc or type(exc).__name__}") from exc
        except (aiokafka.errors.IncompatibleBrokerVersion, NotImplementedError) as exc:
            raise ConfigurationError(
                f"Node {node} does not speak the version of {type(request).__name__} that transaction protocol v2 "
                "needs. Use Apache Kafka 4.0 or later, on every broker."
            ) from exc

    def _any_node(self) -> int:
        node = self._client.get_random_node()
        if node is None:
            raise NoAnswer("No broker of the cluster is known.")
        return int(node)

    async def _coordinator(self, kind: CoordinationType, key: str) -> tuple[int, int]:
        """(error of the look-up, node)."""
        node = self._coordinators.get((kind, key))
        if node is None:
            response = await self._send(self._any_node(), FindCoordinatorRequest(key, kind))
            if response.error_code != Code.NONE:
                return response.error_code, -1
            node = self._coordinators[kind, key] = response.coordinator_id
            await self._know_nodes([node])
        return Code.NONE, node

    async def _look_up_leaders(self, topics: Collection[str]) -> dict[str, TopicDescription]:
        """Refresh the leaders of these topics: their partitions, ids and leader epochs. Creates no topic."""
        response = await self._send(self._any_node(), wire.TopicsRequest(topics))
        found = {topic: TopicDescription(topic, Code.UNKNOWN_TOPIC_OR_PARTITION) for topic in topics}
        nodes = set()
        for error, topic, topic_id, _internal, partitions, *_ in response.topics:
            epochs = {number: epoch for _error, number, _leader, epoch, *_ in partitions}
            numbered = tuple(epochs.get(number, -1) for number in range(len(partitions)))
            found[topic] = TopicDescription(
                topic, error, partition_count=len(partitions), topic_id=topic_id, leader_epochs=numbered
            )
            for _error, number, leader, *_ in partitions:
                self._leaders.pop(Partition(topic, number), None)
                if leader >= 0:
                    self._leaders[Partition(topic, number)] = leader
                    nodes.add(leader)
        await self._know_nodes(nodes)
        return found

    async def _know_nodes(self, nodes: Iterable[int]) -> None:
        """Let aiokafka learn the address of nodes that joined after its last look."""
        if any(self._client.cluster.broker_metadata(node) is None for node in nodes):
            await self._client.force_metadata_update()

    def _learn(self, codes: Iterable[int]) -> None:
        if any(REMEDIES.get(code) is ErrorRemedy.REROUTE for code in codes):
            self._coordinators.clear()

    def _forget_node(self, node: int) -> None:
        self._coordinators = {key: known for key, known in self._coordinators.items() if known != node}
        self._leaders = {partition: known for partition, known in self._leaders.items() if known != node}


def _member(metadata: bytes, owned: bytes) -> GroupMember:
    said = ConsumerProtocolMemberMetadata.decode(metadata).user_data if metadata else b""
    partitions = ConsumerProtocolMemberAssignment.decode(owned).partitions() if owned else ()
    return GroupMember(said, frozenset(Partition(*partition) for partition in partitions))


def _described(usual: TopicDescription, configs: Mapping[str, str | None]) -> TopicDescription:
    return usual._replace(
        max_message_bytes=_number(configs, "max.message.bytes", usual.max_message_bytes),
        compacted="compact" in (configs.get("cleanup.policy") or ""),
        append_time=configs.get("message.timestamp.type") == "LogAppendTime",
        timestamp_before_max_ms=_number(configs, "message.timestamp.before.max.ms", usual.timestamp_before_max_ms),
        timestamp_after_max_ms=_number(configs, "message.timestamp.after.max.ms", usual.timestamp_after_max_ms),
    )


def _number(configs: Mapping[str, str | None], name: str, otherwise: int) -> int:
    text = configs.get(name)
    return int(text) if text else otherwise
