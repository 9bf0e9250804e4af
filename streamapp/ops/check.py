"""What would break the guarantee, found before a worker starts: brokers, topics, time-outs, directory, twins.

Each check answers with problems, and each problem with what to do. Nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata, ConfigResource, ResourceType

from streamapp.client.cluster import connect, security_options
from streamapp.driver.app_check import consumed_by, topic_problems
from streamapp.eos.cluster import NoAnswer
from streamapp.errors import StreamAppError
from streamapp.ops import topics
from streamapp.ops.connection import REACH_TIMEOUT_S, ErrorListener, admin_client, reach
from streamapp.settings import PREFIX, Settings
from streamapp.state import DirectoryInUse, StateDirectory

_REQUEST_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """One check: what was looked at, and what is wrong with it; no problem, no advice needed."""

    check: str
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.problems


async def check(settings: Settings, timeout_s: float = REACH_TIMEOUT_S, *, app: Any = None) -> list[CheckFinding]:
    """Every finding. `Unavailable` when no broker answers: then nothing else can be looked at.

    `app`: also what a worker of it would refuse at its start, and every topic that it consumes or writes to.
    """
    listener = ErrorListener()
    client = admin_client(settings, listener)
    # A worker's own way to connect first: it knows why one that answers cannot be used.
    protocol = CheckFinding("transaction protocol 2", tuple(await _protocol(settings)))
    metadata = reach(client, settings, listener, timeout_s)
    broker_config, hidden = _broker_config(client, metadata)
    return [
        *([CheckFinding("the brokers' settings", (hidden,))] if hidden else []),
        protocol,
        CheckFinding("copies of the brokers' own topics", tuple(_own_topics(len(metadata.brokers), broker_config))),
        CheckFinding("time-outs", tuple(_timeouts(settings, broker_config))),
        CheckFinding("leader elections", tuple(_elections(broker_config))),
        CheckFinding("topics", tuple(_topics(settings))),
        CheckFinding("state directory", tuple(_directory(settings))),
        CheckFinding("no twin of this INSTANCE", tuple(_twin(settings, client))),
        *([] if app is None else await _app(app, settings)),
    ]


async def _app(app: Any, settings: Settings) -> list[CheckFinding]:
    cluster = await connect(settings.broker, security=security_options(settings))
    try:
        problems = await topic_problems(app, cluster)
    except NoAnswer as exc:
        problems = [f"They could not be looked at: {exc}. Run the command again."]
    finally:
        await cluster.close()
    read = ", ".join(consumed_by(app)) or "none"
    return [
        CheckFinding("what the app declares", tuple(app.problems())),
        CheckFinding(f"the app's topics (it reads {read})", tuple(problems)),
    ]


def _broker_config(client: AdminClient, metadata: ClusterMetadata) -> tuple[Mapping[str, str], str | None]:
    """Settings of one broker, and why they are not known; those of a healthy cluster are the same on all."""
    resource = ConfigResource(ResourceType.BROKER, str(next(iter(metadata.brokers))))
    (answer,) = client.describe_configs([resource], request_timeout=_REQUEST_TIMEOUT_S).values()
    try:
        entries: Mapping[str, Any] = answer.result(_REQUEST_TIMEOUT_S + 1)
    except KafkaException as exc:
        return {}, (
            f"They could not be read ({exc.args[0].str()}), so copies, time-outs and leader elections are not judged. "
            "Allow this user DescribeConfigs on the cluster."
        )
    return {name: entry.value or "" for name, entry in entries.items()}, None


async def _protocol(settings: Settings) -> Iterable[str]:
    cluster = await connect(settings.broker, security=security_options(settings))
    try:
        version = (await cluster.features()).transaction_version
    finally:
        await cluster.close()
    if version < 2:
        return [
            f"transaction.version is {version}; on 1 a delayed EndTxn can commit half a transaction. "
            "Run kafka-features.sh upgrade --feature transaction.version=2 (Kafka 4.0 or later)."
        ]
    return []


def _own_topics(brokers: int, config: Mapping[str, str]) -> Iterable[str]:
    """The topics the guarantee rests on: committed offsets and the state of transactions."""
    if brokers < 2:
        return
    wanted = min(3, brokers)
    for name in ("transaction.state.log.replication.factor", "offsets.topic.replication.factor"):
        if _number(config, name, wanted) < wanted:
            yield (
                f"{name}={config[name]} with {brokers} brokers: one lost disk loses what was committed. "
                f"Set it to {wanted}, and move the existing topic with kafka-reassign-partitions.sh."
            )
    if brokers >= 3 and _number(config, "transaction.state.log.min.isr", 2) < 2:
        yield "transaction.state.log.min.isr=1: a commit could be acknowledged by one broker alone. Set it to 2."


def _timeouts(settings: Settings, config: Mapping[str, str]) -> Iterable[str]:
    limits: tuple[tuple[str, float, str, Callable[[float, float], bool]], ...] = (
        ("TRANSACTION_TIMEOUT", settings.transaction_timeout, "transaction.max.timeout.ms", float.__gt__),
        ("SESSION_TIMEOUT", settings.session_timeout, "group.max.session.timeout.ms", float.__gt__),
        ("SESSION_TIMEOUT", settings.session_timeout, "group.min.session.timeout.ms", float.__lt__),
    )
    for name, seconds, setting, is_outside in limits:
        limit_s = _number(config, setting, seconds * 1000) / 1000
        if is_outside(float(seconds), float(limit_s)):
            way = "above" if is_outside is float.__gt__ else "below"
            yield f"{PREFIX}{name}={seconds:g} s is {way} the brokers' {setting}={limit_s:g} s. Change one of them."


def _elections(config: Mapping[str, str]) -> Iterable[str]:
    if config.get("unclean.leader.election.enable") == "true":
        yield (
            "unclean.leader.election.enable=true: a replica that lags may become leader, and what was committed is "
            "gone. Set it to false."
        )


def _topics(settings: Settings) -> Iterable[str]:
    """What `topics diff` says, but for missing topics, which a worker creates; each piece of advice once."""
    by_advice: dict[str, list[str]] = {}
    for difference in topics.diff(settings):
        if difference.actual != "missing":
            wrong = f"{difference.topic}: {difference.setting} is {difference.actual}, not {difference.wanted}"
            by_advice.setdefault(difference.advice, []).append(wrong)
    return [f"{'; '.join(wrong)}. {advice}" for advice, wrong in by_advice.items()]


def _directory(settings: Settings) -> Iterable[str]:
    if settings.store == "memory":
        return
    path = settings.state_directory
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        yield f"{existing} cannot be written. Point {PREFIX}DATADIR at a directory that can."
    elif path.exists() and settings.instance:
        try:
            StateDirectory(path, settings.id).close()
        except DirectoryInUse as exc:
            yield str(exc)
        except StreamAppError as exc:
            yield str(exc)


def _twin(settings: Settings, client: AdminClient) -> Iterable[str]:
    if settings.instance is None:
        return
    try:
        group = client.describe_consumer_groups([settings.id], request_timeout=_REQUEST_TIMEOUT_S)[settings.id]
        members = group.result(_REQUEST_TIMEOUT_S + 1).members
    except KafkaException:
        return  # no such group yet
    for member in members:
        if member.group_instance_id == settings.instance:
            yield (
                f"{settings.instance} is seated in group {settings.id} already, from {member.host}: if that worker "
                "runs, the newer one ends it. Give each worker an INSTANCE of its own, or wait for "
                f"{settings.session_timeout:g} s if it is dead."
            )


def _number(config: Mapping[str, str], name: str, otherwise: float) -> float:
    try:
        return float(config[name])
    except (KeyError, ValueError):
        return otherwise
