"""What a worker of an app would refuse at its start, found without starting it. Nothing is changed."""

from __future__ import annotations

from typing import Any

from streamapp.delivery import dead_letter, late
from streamapp.delivery.inbox import TABLE as INBOX
from streamapp.driver import stamps
from streamapp.driver.tables.inbox import InboxTable, one_count
from streamapp.driver.topic_setup import wanted_by
from streamapp.engine.failure import unfit
from streamapp.eos.cluster import Cluster
from streamapp.eos.protocol import Code, TopicDescription
from streamapp.errors import ConfigurationError


def consumed_by(app: Any) -> list[str]:
    """The topics that the agents of an app read, by name."""
    return sorted({topic for agent in app.agents.values() for topic in agent.get_topic_names()})


async def topic_problems(app: Any, cluster: Cluster) -> list[str]:
    """What is wrong with the topics of an app as they are now, each with what to do.

    A topic that does not exist is no problem: the worker creates it. `NoAnswer` when no broker answers.
    """
    consumed = consumed_by(app)
    wanted_of = wanted_by(app, consumed)
    windowed = {topic for table in app.windowed_tables for topic in table.topics}
    marks = app.tables.get(INBOX)
    inboxes = marks.topics if isinstance(marks, InboxTable) else set()
    kept = {marks.changelog_topic_name} if isinstance(marks, InboxTable) else set()
    names = {*consumed, *wanted_of(1, {}), *inboxes, *kept, *(t.changelog_topic_name for t in app.tables.values())}
    found = {name: topic for name in sorted(names) if (topic := await _described(cluster, name)) is not None}
    counts = {name: topic.partition_count for name, topic in found.items()}
    problems: list[str] = []
    try:
        wanted_of(1, counts)
    except ConfigurationError as exc:
        problems += exc.problems
    try:
        one_count({topic: counts[topic] for topic in inboxes if topic in counts} or {"": 0})
    except ConfigurationError as exc:
        problems += exc.problems
    sides = [topic + dead_letter.SUFFIX for topic in consumed] + [topic + late.SUFFIX for topic in sorted(windowed)]
    problems += [problem for side in sides if side in found and (problem := unfit(found[side])) is not None]
    problems += stamps.problems(
        (name for name, topic in found.items() if not topic.append_time),
        inboxes=inboxes,
        windows=windowed,
        changelogs=kept,
        declared=app.sender_stamped,
    )
    return problems


async def _described(cluster: Cluster, topic: str) -> TopicDescription | None:
    """A topic as it is; None where there is none, or it may not be described."""
    found = await cluster.describe_topic(topic)
    return found if found.error == Code.NONE and found.partition_count > 0 else None
