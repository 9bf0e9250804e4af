"""Topics a worker needs and does not find: created with the settings of the contract, never altered."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping

from streamapp.delivery import dead_letter, late
from streamapp.driver.environment import Environment, WantedTopics
from streamapp.eos.patience import Patience, available
from streamapp.errors import Unavailable
from streamapp.settings import Settings
from streamapp.topics import UPSERTS, TopicSpec, changelog_spec, roomy_spec, spec, specs

logger = logging.getLogger(__name__)


def missing(
    settings: Settings,
    *,
    declared: Mapping[str, int | None],
    consumed: Iterable[str],
    windowed: Iterable[str],
    upserts: Collection[str],
    changelogs: Mapping[str, int | None],
) -> WantedTopics:
    """What should exist: declared topics (those of upserts compacted), dead letters of the consumed ones, late records
    of the windowed ones, and changelogs (name -> partitions).

    A topic that exists is left as it is, whatever it is like; `streamapp check` and `topics diff` judge it.
    """
    names, late_for = set(consumed), tuple(windowed)

    def wanted_of(brokers: int, counts: Mapping[str, int]) -> Mapping[str, TopicSpec]:
        # Dead letters keep their record's partition number, so an input that exists decides how many there are.
        as_they_are = {name: counts[name] for name in names & counts.keys()}
        return _wanted(settings, brokers, {**declared, **as_they_are}, names, late_for, upserts, changelogs)

    return wanted_of


async def create(environment: Environment, wanted_of: WantedTopics, patience_s: float) -> None:
    """Create what does not exist of the topics `wanted_of` names; a Kafka that cannot is asked again meanwhile.

    Raises `Unavailable` when it cannot for `patience_s` seconds.
    """
    patience = Patience(environment.clock, "creating topics", limit_s=patience_s, on_limit=Unavailable)
    if created := list(await available(patience, lambda: environment.create_topics(wanted_of))):
        logger.info("created topics: %s", ", ".join(created))


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
