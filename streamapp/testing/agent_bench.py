"""One agent of a bench: what is put to it, and what came of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamapp.eos.positions import positions_topic
from streamapp.testing import readings
from streamapp.testing.readings import Record

if TYPE_CHECKING:
    from streamapp.testing.bench import Bench


class AgentBench:
    """One agent of a bench."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench = bench
        self.name = name
        agent: Any = bench.app.agents[name]
        #: The topic it reads; of several the first.
        self.topic: str = agent.channel.topics[0]

    def put(self, *values: Any, **how: Any) -> list[Record]:
        """Feed its topic (`Bench.feed`), and return what was sent because of that, dead letters included."""
        bench = self._bench
        own = {table.changelog_topic_name for table in bench.app.tables.values()}
        own.add(positions_topic(bench.app.settings.id))
        before = {(at.topic, at.number): log.high_watermark for at, log in bench.broker.logs.items()}
        bench.feed(self.topic, *values, **how)
        bench.settle()
        topics = bench.broker.topics.keys() - own - {self.topic}
        found = [record for topic in topics for record in readings.records(bench.broker, topic)]
        fresh = [record for record in found if record.offset >= before.get((record.topic, record.partition), 0)]
        return sorted(fresh, key=lambda record: (record.appended_at, record.topic, record.partition, record.offset))
