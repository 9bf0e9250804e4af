"""Topics a worker needs and does not find: created, never altered. Those of the service as its contract says."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from streamapp.delivery import dead_letter, late
from streamapp.driver.tables.after_commit import IntentTable
from streamapp.driver.tables.inbox import InboxTable
from streamapp.driver.tables.inputs import TableInputs, changelog_counts, table_inputs
from streamapp.engine.environment import Environment, WantedTopics
from streamapp.eos.backoff import Backoff, available
from streamapp.errors import ConfigurationError, Unavailable
from streamapp.settings import Settings
from streamapp.topics import UPSERTS, TopicSpec, changelog_spec, roomy_spec, spec, specs

logger = logging.getLogger(__name__)


def wanted_by(app: Any, consumed: Iterable[str]) -> WantedTopics:
    """What a worker of this app wants to exist when it consumes these topics, but for the changelogs of its own tables.

    `ConfigurationError` where a table does not fit its topics.
    """
    # The app's own tables and those with windows have as many partitions as what their events are of.
    marks = {upserts.marks.name for upserts in app.limited_upserts}
    own = (InboxTable, IntentTable)
    tables = [t for t in app.tables.values() if not (isinstance(t, own) or t.windowed or t.name in marks)]
    # Faust declares the changelogs of all tables, as if they were topics like others.
    changelogs = {table.changelog_topic_name for table in app.tables.values()}
    declared = {name: count for name, count in app.declared_topics.items() if name not in changelogs}
    for channel in app.topics:  # streams made by group_by() say how many partitions they want
        declared.update({name: channel.partitions for name in channel.topics if channel.partitions})
    return missing(
        app.settings,
        declared=declared,
        consumed=consumed,
        windowed={topic for table in app.windowed_tables for topic in table.topics},
        upserts=app.upsert_topics,
        tables=table_inputs(tables, app.agents.values()),
        is_the_service=app.is_the_service,
    )


def missing(
    settings: Settings,
    *,
    declared: Mapping[str, int | None],
    consumed: Iterable[str],
    windowed: Iterable[str],
    upserts: Collection[str],
    tables: Collection[TableInputs],
    is_the_service: bool = False,
) -> WantedTopics:
    """What should exist: declared topics (those of upserts compacted), dead letters of the consumed ones, late records
    of the windowed ones, and changelogs of plain tables.

    Inputs that exist decide how many partitions the others get: a key's partition is one number in all of them. A
    topic that exists is left as it is; `ConfigurationError` where a table does not fit its topics. Only the service's
    topics have the settings of the contract: an own topic may have the name of one.
    """
    names, late_for = set(consumed), tuple(windowed)

    def wanted_of(brokers: int, counts: Mapping[str, int]) -> Mapping[str, TopicSpec]:
        there = {name: counts[name] for name in names & counts.keys()}
        default = _one(there.values(), settings.partitions)
        # Dead letters keep their record's partition number, so an input that exists decides how many there are.
        as_they_are = {name: there.get(name) or count or default for name, count in declared.items()}
        inputs = {name: there.get(name) or declared.get(name) or default for name in names}
        logs, problems = changelog_counts(tables, inputs, _one(inputs.values(), default), counts)
        if problems:
            raise ConfigurationError(*problems)
        wanted = _wanted(settings, brokers, as_they_are | inputs, names, late_for, upserts, logs)
        return _as_the_contract_says(settings, brokers, wanted) if is_the_service else wanted

    return wanted_of


def _one(counts: Iterable[int], default: int) -> int:
    """The one count that all have; `default` where they differ, or there is none."""
    found = set(counts)
    return found.pop() if len(found) == 1 else default


async def create(environment: Environment, wanted_of: WantedTopics, patience_s: float) -> None:
    """Create what does not exist of the topics `wanted_of` names; a Kafka that cannot is asked again meanwhile.

    Raises `Unavailable` when it cannot for `patience_s` seconds.
    """
    patience = Backoff(environment.clock, "creating topics", limit_s=patience_s, on_limit=Unavailable)
    if created := list(await available(patience, lambda: environment.create_topics(wanted_of))):
        logger.info("created topics: %s", ", ".join(created))


def _wanted(
    settings: Settings,
    brokers: int,
    declared: Mapping[str, int],
    consumed: Iterable[str],
    windowed: Iterable[str],
    upserts: Collection[str],
    changelogs: Mapping[str, int],
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
    return wanted


def _as_the_contract_says(settings: Settings, brokers: int, wanted: Mapping[str, TopicSpec]) -> dict[str, TopicSpec]:
    """These topics, those of the contract with its settings; the partition counts stay."""
    of_contract = (topic for topic in specs(settings, brokers) if topic.name in wanted)
    return {**wanted, **{it.name: replace(it, partitions=wanted[it.name].partitions) for it in of_contract}}
