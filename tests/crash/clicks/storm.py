"""One storm: the clicks are sent, two workers take them, one is killed every so often, and everything is counted."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, Producer

from campaign.cluster import Cluster
from campaign.worker import Worker
from clicks.oracle import STEP_S, Oracle
from streamapp.audit import Report, audit

_TOPIC = "ad-click"
_CONSUMED_S = 60.0
_POLL_S = 0.25
#: What part of the records is consumed between two kills, at least.
_BETWEEN_KILLS = 0.05
#: What a broker says of topics, and of a group, that it has just been asked to make.
_FOR_A_MOMENT = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}


@dataclass
class Storm:
    """See the module.

    `tell` is told how many records are consumed, of how many, and how often was killed; `note`, what is done next.
    """

    cluster: Cluster
    directory: Path
    seed: int
    records: int
    kill_every_s: float
    bound_s: float
    span_s: float = 7200.0
    tell: Callable[[int, int, int], None] = lambda done, total, kills: None
    note: Callable[[str], None] = lambda text: None
    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # records by topic
    kills: int = 0
    seconds: float = 0.0
    audit_s: float = 0.0

    def run(self) -> Storm:
        """Fire it; what went wrong is in `problems`."""
        self.app = f"clicks-{self.seed}"
        self.cluster.make_topics(self.app)
        end_s = time.time() // STEP_S * STEP_S  # whole steps, so that a seed has the same late clicks at any time
        self.oracle = Oracle(self.seed, self.records, self.cluster.partitions, end_s, self.span_s)
        self._workers: dict[str, Worker] = {}
        self._sent = threading.Event()
        self._done = 0  # records consumed, when last asked
        feeding = threading.Thread(target=self._feed, name="feed", daemon=True)
        began = time.monotonic()
        try:
            for name in ("a", "b"):
                self._start(name)
            feeding.start()
            self._kill_until_consumed(began)
            self.seconds = time.monotonic() - began
            feeding.join(_CONSUMED_S)
            self._judge()
            codes = {name: worker.stop() for name, worker in self._workers.items()}
            self._expect("exit codes of the workers", codes, dict.fromkeys(codes, 0))
        finally:
            for worker in self._workers.values():
                worker.kill()
        return self

    def _start(self, name: str) -> None:
        log = self.directory / f"worker-{name}.log"
        self._workers[name] = Worker(
            self.cluster.bootstrap, self.app, name, self.directory / "state", log, partitions=self.cluster.partitions
        )

    def _feed(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.cluster.bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "log_level": 0,
            }
        )
        failed: list[str] = []
        for click in self.oracle.records():
            while True:
                try:
                    producer.produce(
                        _TOPIC,
                        click.value,
                        click.key,
                        on_delivery=lambda error, _: failed.append(str(error)) if error else None,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        if producer.flush(_CONSUMED_S) or failed:
            self.problems.append(f"the feed was not acknowledged: {failed[:1]}")
        self._sent.set()

    def _kill_until_consumed(self, began: float) -> None:
        """Kill one worker after the other, each in its turn, and start it again at once.

        Not before something was done since the last time: on a busy machine a worker takes long to start.
        """
        turns, next_kill, at_kill = itertools.cycle(self._workers), began + self.kill_every_s, 0
        while not self._consumed():
            now = time.monotonic()
            if now - began > self.bound_s:
                raise TimeoutError(f"not consumed in {self.bound_s:.0f} s; seed {self.seed}; {self.directory}")
            if now >= next_kill and self._done >= at_kill + self.records * _BETWEEN_KILLS:
                name = next(turns)
                self._workers[name].kill()
                self.kills += 1
                self._start(name)
                next_kill, at_kill = now + self.kill_every_s, self._done
            time.sleep(_POLL_S)

    def _consumed(self) -> bool:
        try:
            done = sum(self.cluster.committed(self.app, (_TOPIC,)).values())
            end = sum(self.cluster.ends((_TOPIC,), IsolationLevel.READ_COMMITTED).values())
        except KafkaException as exc:
            if exc.args[0].code() not in _FOR_A_MOMENT:
                raise
            return False
        self._done = done
        self.tell(done, max(end, self.records), self.kills)
        return self._sent.is_set() and done == end

    # --- what came of it

    def _judge(self) -> None:
        began = time.monotonic()
        self.note(f"all consumed after {self.seconds:.0f} s, {self.kills} kills; the auditor reads")
        report = audit({"bootstrap.servers": self.cluster.bootstrap}, group=self.app, wait_s=_CONSUMED_S)
        self.audit_s = time.monotonic() - began
        self._expect("verdict of the auditor", _told(report), "PASS")
        self.note(f"{report.verdict} after {self.audit_s:.0f} s; counting what is in the topics")
        oracle = self.oracle
        for topic in ("advertiser-charge", "publisher-revenue"):
            seen: set[str] = set()
            amount = 0
            for message in self.cluster.stream((topic,)):
                value = json.loads(message.value())
                seen.add(value["event_id"])
                amount += value["amount"]
                self.counts[topic] += 1
            self._expect(f"records of {topic}", self.counts[topic], oracle.distinct)
            self._expect(f"distinct records of {topic}", len(seen), oracle.distinct)
            self._expect(f"sum of {topic}", amount, oracle.amount)
        for topic, expected in (("ad-click-dlt", oracle.made["poison"]), ("ad-click-late", oracle.late)):
            self.counts[topic] = sum(1 for _ in self.cluster.stream((topic,)))
            self._expect(f"records of {topic}", self.counts[topic], expected)
        self._judge_finals()

    def _judge_finals(self) -> None:
        finals: dict[tuple[str, int], tuple[int, int]] = {}
        for message in self.cluster.stream(("ad-spend",)):
            value = json.loads(message.value())
            self.counts["ad-spend"] += 1
            if value["final"]:
                window = value["advertiser_id"], _seconds(value["window_start"])
                if window in finals:
                    self.problems.append(f"{window} has two finals; seed {self.seed}")
                finals[window] = value["count"], value["amount"]
        expected = self.oracle.finals
        self.counts["finals"] = len(finals)
        wrong = [
            (at, finals.get(at), expected.get(at)) for at in finals | expected if finals.get(at) != expected.get(at)
        ]
        self._expect("finals unlike the oracle's", wrong[:3], [])
        self._expect("finals", len(finals), len(expected))

    def _expect(self, what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            self.problems.append(f"{what}: {found} instead of {wanted}; seed {self.seed}")


def _told(report: Report) -> str:
    stories = [line for kept in report.findings.stories.values() for story in kept[:1] for line in story.lines]
    return "\n".join([str(report.verdict), *report.reasons, *stories[:12]])


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
