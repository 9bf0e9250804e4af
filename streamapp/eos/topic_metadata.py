"""What is known of the topics that are written to: partitions and limits, asked for once and kept."""

from __future__ import annotations

from streamapp.clock import Clock
from streamapp.eos.backoff import Backoff
from streamapp.eos.cluster import Cluster, NoAnswer
from streamapp.eos.protocol import Code, TopicDescription
from streamapp.eos.remedies import REPEATED, named, remedy
from streamapp.errors import ConfigurationError, RecordError

#: How long a topic may take to become known after it was created, in seconds.
TOPIC_PATIENCE_S = 5.0


class TopicMetadataCache:
    """Topic descriptions by name. `known` is a plain dictionary, for the hot path."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self.known: dict[str, TopicDescription] = {}
        self._cluster = cluster
        self._clock = clock

    async def ensure(self, topic: str, patience_s: float = TOPIC_PATIENCE_S) -> TopicDescription:
        """Learn a topic, once; wait up to `patience_s` for one that was just created.

        `RecordError` when there is no such topic: the event that sends to it can never be processed.
        `ConfigurationError` when it may not be described.
        """
        known = self.known.get(topic)
        return known if known is not None else await self.renew(topic, patience_s)

    async def renew(self, topic: str, patience_s: float = TOPIC_PATIENCE_S) -> TopicDescription:
        """Learn a topic again, as `ensure()` does: it may have got partitions, or be gone, since the last time."""
        away = Backoff(self._clock, f"asking for topic {topic}")
        patience = Backoff(self._clock, f"looking for topic {topic}", limit_s=patience_s, on_limit=RecordError)
        while True:
            try:
                found = await self._cluster.describe_topic(topic)
            except NoAnswer as exc:
                await away.pause(str(exc))
                patience.extend()  # that the broker is away says nothing about the topic
                continue
            if found.error == Code.NONE and found.partition_count > 0:
                self.known[topic] = found
                return found
            _refuse(found)
            await patience.pause(f"{named(found.error)}; create it first")

    async def refresh(self, topic: str) -> None:
        """Look once whether a topic's limits or partitions have changed; without a good answer the old ones stand."""
        try:
            found = await self._cluster.describe_topic(topic)
        except NoAnswer:
            return
        if found.error == Code.NONE and found.partition_count > 0:
            self.known[topic] = found


def _refuse(found: TopicDescription) -> None:
    """Raise for an answer that waiting cannot change."""
    if found.error == Code.INVALID_TOPIC:
        raise RecordError(f"{found.name!r} is no name Kafka allows for a topic.", kind="UnknownTopic")
    if found.error != Code.NONE and remedy(found.error) not in REPEATED:
        raise ConfigurationError(
            f"Topic {found.name} cannot be described: {named(found.error)}. Nothing is committed. "
            "Allow this user Read or Write and DescribeConfigs on it: docs/permissions.md has the list."
        )
