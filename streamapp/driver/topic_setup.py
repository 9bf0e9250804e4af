"""Topics a worker needs and does not find: created with the settings of the contract, never altered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import aiokafka.errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamapp.delivery import dead_letter, late
from streamapp.settings import Settings
from streamapp.topics import UPSERTS, TopicSpec, changelog_spec, roomy_spec, spec, specs

logger = logging.getLogger(__name__)


async def create_missing(
    settings: Settings,
    *,
    declared: Mapping[str, int | None],
    consumed: Iterable[str],
    windowed: Iterable[str],
    upserts: Collection[str],
    changelogs: Mapping[str, int | None],
    client_options: Mapping[str, Any],
) -> None:
    """Create what does not exist of: declared topics (those of upserts compacted), dead letters of the consumed ones,
    late records of the windowed ones, and changelogs (name -> partitions).

    A topic that exists is left as it is, whatever it is like; `streamapp check` and `topics diff` judge it.
    """
    names, late_for = set(consumed), tuple(windowed)

    def wanted_of(brokers: int, counts: Mapping[str, int]) -> Mapping[str, TopicSpec]:
        # Dead letters keep their record's partition number, so an input that exists decides how many there are.
        as_they_are = {name: counts[name] for name in names & counts.keys()}
        return _wanted(settings, brokers, {**declared, **as_they_are}, names, late_for, upserts, changelogs)

    await create(wanted_of, client_options)


async def create(
    wanted_of: Callable[[int, Mapping[str, int]], Mapping[str, TopicSpec]], client_options: Mapping[str, Any]
) -> None:
    """Create what does not exist of the topics `wanted_of` names.

    It is told how many brokers there are, and the number of partitions of every topic that exists.
    """
    admin = AIOKafkaAdminClient(**client_options)
    await admin.start()
    try:
        existing = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
        brokers = len((await admin.describe_cluster())["brokers"])
        missing = [topic for name, topic in wanted_of(brokers, existing).items() if name not in existing]
        if not missing:
            return
        logger.info("creating topics: %s", ", ".join(topic.name for topic in missing))
        answer = await admin.create_topics(
            [
                NewTopic(topic.name, topic.partitions, topic.replication_factor, topic_configs=dict(topic.config))
                for topic in missing
            ]
        )
        for name, code, *rest in answer.topic_errors:
            error = aiokafka.errors.for_code(code)
            if error not in (aiokafka.errors.NoError, aiokafka.errors.TopicAlreadyExistsError):
                raise error(f"{name}: {rest[0] if rest else ''}")
    finally:
        await admin.close()


def _wanted(
    settings: Settings,
    brokers: int,
    declared: Mapping[str, int | None],
    consumed: Iterable[str],
    windowed: Iterable[str],
    upserts: Collection[str],
    changelogs: Mapping[str, int | None],
) -> dict[str, TopicSpec]:
    wanted = {
        name: spec(settings, brokers, name, partitions, UPSERTS if name in upserts else None)
        for name, partitions in declared.items()
    }
    for name in consumed:
        wanted.setdefault(name, spec(settings, brokers, name, declared.get(name)))
    for names, suffix in ((consumed, dead_letter.SUFFIX), (windowed, late.SUFFIX)):
        for name in names:
            wanted[name + suffix] = roomy_spec(settings, brokers, name + suffix, declared.get(name))
    for name, partitions in changelogs.items():
        wanted[name] = changelog_spec(settings, brokers, name, partitions)
    return wanted | {topic.name: topic for topic in specs(settings, brokers) if topic.name in wanted}
