"""Looks once a second whether the topics that are read are still those that they were at the assignment.

A topic that is deleted shows itself: its partitions go. One that is deleted and created anew between two looks of the
client at the cluster does not: fetches go by name, and would read on in another log at the old log's offset.
"""

from __future__ import annotations

from streamapp.clock import Clock
from streamapp.engine.engine import Engine
from streamapp.eos.cluster import Cluster, NoAnswer
from streamapp.eos.positions import TopicReplaced

LOOK_EVERY_S = 1.0


async def watch_topics(engine: Engine, cluster: Cluster, clock: Clock) -> None:
    """Look until cancelled; end the worker, with nothing more committed, where a topic is another one."""
    while True:
        await clock.sleep(LOOK_EVERY_S)
        topics = sorted({partition.topic for partition in engine.owners})
        if not topics or engine.positions is None:
            continue
        expected = engine.positions.topic_ids
        before = {topic: expected[topic] for topic in topics}
        try:
            now = await cluster.topic_ids(topics)
        except NoAnswer:
            continue
        if engine.over or engine.positions.topic_ids is not expected:
            continue
        for topic, topic_id in before.items():
            if now.get(topic, topic_id) != topic_id:
                engine.end(TopicReplaced(topic, topic_id, now[topic]))
                return
