"""The marks of an app's inboxes: one table, and how many partitions it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streamapp.delivery.inbox import TABLE, Mark, mark_key
from streamapp.driver.tables.table import Table
from streamapp.errors import ConfigurationError


class InboxTable(Table):
    """The marks of an app: one table for all its inboxes, (agent, key, id...) -> `Mark`."""

    def __init__(self, app: Any, retention_s: float) -> None:
        super().__init__(app, name=TABLE, help="Events that were processed, by agent, key and event id")
        self.retention_s = retention_s
        self._dump = Mark.pack
        self._load = Mark.unpack
        #: Agents declared with an inbox, and topics of streams that were given one.
        self.agents: list[Any] = []
        self.streamed: set[str] = set()

    @property
    def topics(self) -> set[str]:
        """The topics whose events have marks; their number of partitions is the table's."""
        return self.streamed.union(*(agent.get_topic_names() for agent in self.agents))

    def key_bytes(self, key: Iterable[Any]) -> bytes:
        """(agent, record key, event id...)."""
        agent, record_key, *event_id = key
        return mark_key(agent, None if record_key is None else record_key.encode(), tuple(event_id))


def one_count(counts: Mapping[str, int]) -> int:
    """The partition count of topics that share an inbox: a mark lives in the partition number of its event."""
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{topic} {count}" for topic, count in sorted(counts.items()))
        raise ConfigurationError(
            f"The topics of agents with an inbox have different numbers of partitions ({listed}), but an app has one "
            "inbox, whose marks lie in the partition of their event. Give these topics one number, or part the app."
        )
    return next(iter(counts.values()))
