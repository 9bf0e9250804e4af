"""How far a consumer group is: committed offsets against the ends of its topics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streamapp.ops.connection import REACH_TIMEOUT_S, ErrorListener, client_arguments, unavailable
from streamapp.settings import Settings

_REQUEST_TIMEOUT_S = 5.0


class Consumed(NamedTuple):
    """Offsets, control records among them: a group that is done has `done` equal to `end`."""

    done: int
    end: int


class GroupLag:
    """Asks again and again over one connection. Not a member of the group; use as a context manager."""

    def __init__(self, settings: Settings, topics: Iterable[str]) -> None:
        self._settings = settings
        self._topics = list(topics)
        self._listener = ErrorListener()
        self._client = Consumer(
            {
                **client_arguments(settings, self._listener),
                "group.id": settings.id,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def consumed(self) -> dict[str, Consumed]:
        """Each topic's sum over its partitions; what was never committed counts from the beginning of the log."""
        try:
            found = self._client.list_topics(timeout=REACH_TIMEOUT_S).topics
            return {topic: self._topic(topic, list(found[topic].partitions)) for topic in self._topics}
        except KafkaException:
            raise unavailable(self._settings, self._listener, "when asked for offsets") from None

    def _topic(self, topic: str, numbers: list[int]) -> Consumed:
        done = end = 0
        places = [TopicPartition(topic, number) for number in numbers]
        for place in self._client.committed(places, timeout=_REQUEST_TIMEOUT_S):
            low, high = self._client.get_watermark_offsets(place, timeout=_REQUEST_TIMEOUT_S)
            done += (place.offset if place.offset >= 0 else low) - low
            end += high - low
        return Consumed(done, end)
