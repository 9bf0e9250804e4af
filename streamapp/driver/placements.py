"""By which partitioner the rows of each table are placed: a row lies in the partition of its event."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from streamapp.delivery.inbox import TABLE as INBOX
from streamapp.driver.tables.inputs import Use, uses
from streamapp.eos.partitioner import DEFAULT, Partitioner

#: Partitioner -> the topics whose events it places, as people know them.
Sources = dict[Partitioner, list[str]]


class Placements:
    """Which partitioner each topic of an app has, and which topics share a table.

    As far as the code of the agents says it, which is read once.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    @cached_property
    def _uses(self) -> list[Use]:
        return uses(self._app.agents.values())

    def problems(self) -> Iterable[str]:
        """Each table of which one key could have several rows, in partitions that differ."""
        if not self._app.partitioners:
            return
        own = {INBOX, *(upserts.marks.name for upserts in self._app.limited_upserts)}
        for name in sorted(self._app.tables.keys() - own):  # marks of an inbox are parted by agent
            sources = self._sources(name)
            if len({partitioner.hashing for partitioner in sources}) > 1:
                listed = "; ".join(f"{', '.join(topics)} by {it.name}" for it, topics in sources.items())
                yield (
                    f"Table {name} belongs to events whose keys are placed by different partitioners ({listed}), and a "
                    "row lies in the partition of its event: one key would have several rows. Nothing was consumed. "
                    "Have the senders of all these topics use one partitioner, and declare it for all; or give the "
                    "topics of each partitioner a table of their own; or group_by() the events of all of them, which "
                    f"places them by {DEFAULT.name}."
                )

    def partitions(self, table: str, event_key: bytes, count: int) -> list[int]:
        """The partitions in which a row of an event's key can be: one, where its topics have one partitioner."""
        if not self._app.partitioners:
            return [DEFAULT.partition_of(event_key, count)]
        found = self._sources(table) or self._all()
        if any(partitioner.scatters(event_key) for partitioner in found):
            return list(range(count))
        return sorted({partitioner.partition_of(event_key, count) for partitioner in found})

    def _sources(self, table: str) -> Sources:
        """Of a table's events; empty where nothing says whose they are."""
        of_marks = {upserts.marks.name: upserts.table.name for upserts in self._app.limited_upserts if upserts.marks}
        found = self._app.tables[of_marks.get(table, table)]
        if found.windowed is not None:
            return self._of_topics(found.windowed.topics)
        if table == INBOX:
            return self._of_topics(found.topics)
        return self._merged(use for use in self._uses if id(found) in use.named)

    def _all(self) -> Sources:
        """Of all events of the app."""
        return self._merged(self._uses) or {DEFAULT: []}

    def _merged(self, found: Iterable[Use]) -> Sources:
        sources: Sources = {}
        for use in found:
            if use.moves:
                sources.setdefault(DEFAULT, []).append(f"what {use.agent.name} moves on")
            else:
                for partitioner, topics in self._of_topics(use.agent.get_topic_names()).items():
                    known = sources.setdefault(partitioner, [])
                    known += [topic for topic in topics if topic not in known]
        return sources

    def _of_topics(self, topics: Iterable[str]) -> Sources:
        sources: Sources = {}
        for topic in sorted(topics):
            sources.setdefault(self._app.partitioners.get(topic, DEFAULT), []).append(topic)
        return sources
