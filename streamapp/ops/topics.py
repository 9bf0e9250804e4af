"""Reads the layout of a cluster, and creates or alters what `streamapp.topics` says may be created or altered.

Never: a partition added, a topic deleted, a setting touched that we do not declare (KIP-339 alters single settings).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

from streamapp.clock import SYSTEM_CLOCK
from streamapp.errors import StreamAppError, Unavailable
from streamapp.ops.connection import REACH_TIMEOUT_S, ErrorListener, admin_client, reach, unavailable
from streamapp.settings import Settings
from streamapp.topics import ActualTopic, Difference, TopicRemedy, TopicSpec, differences, specs

#: How long one request to the cluster may take, and how long new topics may take to get their leaders.
REQUEST_TIMEOUT_S = 10.0
SETTLE_TIMEOUT_S = 15.0

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Layout:
    """What was found: how many brokers, the declared topics that exist, those of them without all their leaders."""

    brokers: int
    topics: Mapping[str, ActualTopic]
    leaderless: frozenset[str]


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` did, and what differs still: only a person can mend that."""

    created: tuple[str, ...]
    altered: tuple[Difference, ...]
    left: tuple[Difference, ...]


def diff(settings: Settings, timeout_s: float = REACH_TIMEOUT_S) -> tuple[Difference, ...]:
    """Everything in which the cluster's topics differ from the contract. Changes nothing."""
    listener = ErrorListener()
    client = admin_client(settings, listener)
    return _compared(client, settings, listener, timeout_s)[2]


def apply(settings: Settings, timeout_s: float = REACH_TIMEOUT_S) -> Applied:
    """Create what is missing, alter what differs, wait until all of it is there. Doing it twice changes nothing."""
    listener = ErrorListener()
    client = admin_client(settings, listener)
    wanted, _, found = _compared(client, settings, listener, timeout_s)
    missing = {difference.topic for difference in found if difference.remedy is TopicRemedy.CREATE}
    altered = tuple(difference for difference in found if difference.remedy is TopicRemedy.ALTER)
    try:
        created = _create(client, [spec for spec in wanted if spec.name in missing])
        _alter(client, altered)
    except Unavailable:
        raise unavailable(settings, listener, "while its topics were being applied; apply again") from None
    return Applied(created, altered, _settled(client, settings, listener))


def _compared(
    client: AdminClient, settings: Settings, listener: ErrorListener, timeout_s: float
) -> tuple[tuple[TopicSpec, ...], Layout, tuple[Difference, ...]]:
    metadata = reach(client, settings, listener, timeout_s)
    wanted = specs(settings, len(metadata.brokers))
    names = {spec.name for spec in wanted}
    present = [topic for name, topic in metadata.topics.items() if name in names and topic.partitions]
    try:
        configs = _configs(client, [str(topic.topic) for topic in present])
    except Unavailable:
        raise unavailable(settings, listener, "when asked for the settings of its topics") from None
    layout = Layout(
        len(metadata.brokers),
        {str(topic.topic): _actual(topic, configs[str(topic.topic)]) for topic in present},
        frozenset(str(topic.topic) for topic in present if _lacks_leader(topic)),
    )
    return wanted, layout, tuple(differences(wanted, layout.topics))


def _actual(topic: TopicMetadata, config: Mapping[str, str]) -> ActualTopic:
    copies = min(len(partition.replicas) for partition in topic.partitions.values())
    return ActualTopic(str(topic.topic), len(topic.partitions), copies, config)


def _lacks_leader(topic: TopicMetadata) -> bool:
    return any(partition.leader < 0 for partition in topic.partitions.values())


def _configs(client: AdminClient, names: Collection[str]) -> dict[str, dict[str, str]]:
    """The settings in force of each topic, whoever set them."""
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    futures = client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
    answers = _answers({resource.name: future for resource, future in futures.items()}, "read the settings of")
    return {name: {key: entry.value or "" for key, entry in answers[name].items()} for name in names}


def _create(client: AdminClient, missing: Collection[TopicSpec]) -> tuple[str, ...]:
    if not missing:
        return ()
    topics = [
        NewTopic(spec.name, spec.partitions, spec.replication_factor, config=dict(spec.config)) for spec in missing
    ]
    futures = client.create_topics(topics, request_timeout=REQUEST_TIMEOUT_S)
    # Somebody else may have created it in between: then it is there, and the comparison that follows judges it.
    made = _answers(futures, "create", ignore=KafkaError.TOPIC_ALREADY_EXISTS)
    return tuple(spec.name for spec in missing if spec.name in made)


def _alter(client: AdminClient, altered: Iterable[Difference]) -> None:
    entries: dict[str, list[ConfigEntry]] = {}
    for difference in altered:
        entry = ConfigEntry(difference.setting, difference.wanted, incremental_operation=AlterConfigOpType.SET)
        entries.setdefault(difference.topic, []).append(entry)
    if not entries:
        return
    resources = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=each) for name, each in entries.items()]
    futures = client.incremental_alter_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
    _answers({resource.name: future for resource, future in futures.items()}, "alter")


def _answers(futures: Mapping[str, Future[Any]], doing: str, ignore: int | None = None) -> dict[str, Any]:
    """The answer for each topic. Refusals are gathered, so that one look shows them all."""
    answers: dict[str, Any] = {}
    refusals = []
    for name, future in futures.items():
        try:
            answers[name] = future.result(REQUEST_TIMEOUT_S + 1)
        except KafkaException as exc:
            error: KafkaError = exc.args[0]
            if error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                raise Unavailable(error.str()) from None
            if error.code() != ignore:
                refusals.append(f"Kafka refused to {doing} the topic {name}: {error.str()}")
    if refusals:
        raise StreamAppError("\n".join([*refusals, "Mend that and run it again; what was accepted is kept."]))
    return answers


def _settled(client: AdminClient, settings: Settings, listener: ErrorListener) -> tuple[Difference, ...]:
    """What is left once everything applied is visible and led: brokers learn of a change one after the other."""
    deadline = SYSTEM_CLOCK.monotonic() + SETTLE_TIMEOUT_S
    while True:
        _, layout, found = _compared(client, settings, listener, REACH_TIMEOUT_S)
        if not layout.leaderless and all(difference.remedy is TopicRemedy.PERSON for difference in found):
            return found
        if SYSTEM_CLOCK.monotonic() > deadline:
            break
        client.poll(_POLL_S)
    if layout.leaderless:
        raise Unavailable(
            f"After {SETTLE_TIMEOUT_S:g} s these topics have partitions without a leader: "
            f"{', '.join(sorted(layout.leaderless))}. Check that every broker runs, then apply again."
        )
    return found
