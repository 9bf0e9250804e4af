"""One run on real Kafka: the service's worker and one of `fuzzed_app`, both killed now and then, and a verdict."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, Producer

from campaign.cluster import Cluster
from campaign.worker import Worker
from fuzzing.judge import AGENTS, SUMS, Outcome, Place, in_windows, problems, rows_of, seen_of
from fuzzing.makers import CONTRACT, FUZZED
from fuzzing.records import Fuzzed, Generator
from streamapp.audit import Report, audit

_HERE = Path(__file__).parents[1]
#: `streamapp` with the app of the fuzz; `worker` and its options follow.
_FUZZED_COMMAND = (
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {str(_HERE)!r}); sys.argv += ['--app', 'fuzzed_app']; "
    "from streamapp.cli.main import main; main()",
)
_CONSUMED_S = 60.0
_POLL_S = 0.5
_STARTED_S = 60.0


@dataclass
class Storm:
    """See the module. `records` are shared by both workers; `tell` is told how many are consumed, of how many."""

    cluster: Cluster
    directory: Path
    seed: int
    records: int
    kill_every_s: float
    bound_s: float
    tell: Callable[[int, int, int], None] = lambda done, total, kills: None
    note: Callable[[str], None] = lambda text: None
    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    seconds: float = 0.0

    def run(self) -> Storm:
        """Fire it; what went wrong is in `problems`."""
        self._ids = {"service": f"fuzz-service-{self.seed}", "fuzzed": "fuzzed"}
        self._now_ms = int(time.time() * 1000)
        self._inputs = {"service": tuple(CONTRACT), "fuzzed": tuple(FUZZED)}
        self._workers: dict[str, Worker] = {}
        self._sent = threading.Event()
        self.cluster.make_topics(self._ids["service"])
        began = time.monotonic()
        try:
            for name in self._ids:
                self._start(name)
            self._until_ready()
            feeding = threading.Thread(target=self._feed, name="feed", daemon=True)
            feeding.start()
            self._until_consumed(began)
            self.seconds = time.monotonic() - began
            feeding.join(_CONSUMED_S)
            self._judge()
            for name, worker in self._workers.items():
                if (code := worker.stop()) != 0:
                    self.problems.append(f"the worker {name} ended with {code}: {worker.log}")
        finally:
            for worker in self._workers.values():
                worker.kill()
        return self

    # --- workers

    def _start(self, name: str) -> None:
        options: dict[str, Any] = {} if name == "service" else {"command": _FUZZED_COMMAND}
        log = self.directory / f"worker-{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self._workers[name] = Worker(
            self.cluster.bootstrap,
            self._ids[name],
            name,
            self.directory / "state",
            log,
            partitions=self.cluster.partitions,
            web_port=0,
            **options,
        )

    def _until_ready(self) -> None:
        give_up = time.monotonic() + _STARTED_S
        for name, worker in self._workers.items():
            while "ready after" not in worker.log.read_text(errors="replace"):
                self._expect_alive()
                if time.monotonic() > give_up:
                    raise TimeoutError(f"the worker {name} is not ready after {_STARTED_S:.0f} s: {worker.log}")
                time.sleep(_POLL_S)

    def _expect_alive(self) -> None:
        for name, worker in self._workers.items():
            if worker.exit_code is not None:
                raise AssertionError(f"the worker {name} ended with {worker.exit_code}; seed {self.seed}: {worker.log}")

    def _until_consumed(self, began: float) -> None:
        """Kill one worker after the other, each in its turn, and start it again at once."""
        turns, next_kill = itertools.cycle(self._workers), began + self.kill_every_s
        while not self._consumed():
            now = time.monotonic()
            self._expect_alive()
            if now - began > self.bound_s:
                raise TimeoutError(f"not consumed in {self.bound_s:.0f} s; seed {self.seed}; {self.directory}")
            if now >= next_kill:
                name = next(turns)
                self._workers[name].kill()
                self.kills += 1
                self._start(name)
                next_kill = time.monotonic() + self.kill_every_s
            time.sleep(_POLL_S)

    def _consumed(self) -> bool:
        done = 0
        try:
            for name, inputs in self._inputs.items():
                done += sum(self.cluster.committed(self._ids[name], inputs).values())
        except KafkaException:  # a coordinator that is being loaded; the time is bounded
            return False
        self.tell(min(done, self.records), self.records, self.kills)
        if self._sent.is_set() and self.problems:
            raise AssertionError(f"seed {self.seed}: {self.problems}")
        return self._sent.is_set() and done >= self.records

    # --- input

    def _generated(self) -> Iterator[Fuzzed]:
        """The input, the same each time."""
        sources = [
            Generator(self.seed, self.cluster.partitions, self._now_ms, FUZZED).records(self.records // 2),
            Generator(self.seed, self.cluster.partitions, self._now_ms, CONTRACT).records(
                self.records - self.records // 2
            ),
        ]
        for pair in itertools.zip_longest(*sources):
            yield from (record for record in pair if record is not None)

    def _feed(self) -> None:
        try:
            self._feed_all()
        except Exception as exc:  # noqa: BLE001 - told by whoever waits for the feed
            self.problems.append(f"the feed ended: {type(exc).__name__}: {exc}")
        self._sent.set()

    def _feed_all(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.cluster.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 20,
                "log_level": 0,
            }
        )
        refused: list[str] = []
        for record in self._generated():
            while True:
                try:
                    producer.produce(
                        record.topic,
                        record.value,
                        record.key,
                        record.partition,
                        on_delivery=lambda error, _: refused.append(str(error)) if error else None,
                        timestamp=max(0, record.timestamp_ms),
                        headers=list(record.headers),
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        if producer.flush(_CONSUMED_S) or refused:
            self.problems.append(f"the feed was not acknowledged: {refused[:1]}")

    def _fed(self) -> Iterator[tuple[Place, Fuzzed]]:
        """What was sent to the topics of `fuzzed_app`, with its place: nobody else writes there."""
        offsets: Counter[tuple[str, int]] = Counter()
        for record in self._generated():
            if record.topic in FUZZED:
                at = record.topic, record.partition
                yield (*at, offsets[at]), record
                offsets[at] += 1

    # --- what came of it

    def _judge(self) -> None:
        self.note(f"all consumed after {self.seconds:.0f} s, {self.kills} kills; the judge reads")
        self.problems += problems(self._outcome())
        self.note("the auditor reads")
        report = audit({"bootstrap.servers": self.cluster.bootstrap}, group=self._ids["service"], wait_s=_CONSUMED_S)
        if report.verdict.name != "PASS":
            self.problems.append(_told(report))

    def _outcome(self) -> Outcome:
        seen = [seen_of(message.value()) for message in self._read("seen")]
        letters = [_letter_of(message.headers()) for message in self._read(*(f"{topic}-dlt" for topic in AGENTS))]
        windows = in_windows((key, value) for key, value in self._values("windowed-minutes"))
        late = sum(1 for _ in self._read("windowed-late"))
        tables = {table: self._table(table) for table in SUMS.values()}
        self.counts.update({"processed": len(seen), "dead letters": len(letters), "late": late})
        return Outcome(self._fed(), seen, letters, tables, windows, late)

    def _read(self, *topics: str) -> Iterator[Any]:
        return self.cluster.stream(topics)

    def _values(self, topic: str) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
        return ((message.key(), json.loads(message.value())) for message in self._read(topic))

    def _table(self, table: str) -> dict[str, int]:
        return rows_of(
            (m.partition(), m.key(), m.value()) for m in self._read(f"{self._ids['fuzzed']}-{table}-changelog")
        )


def _letter_of(headers: Any) -> tuple[Place, str]:
    """The last of each name: a record may have come with headers that are called like ours."""
    found = {name: (value or b"").decode("utf-8", "replace") for name, value in headers if name.startswith("dlt-")}
    place = found["dlt-original-topic"], int(found["dlt-original-partition"]), int(found["dlt-original-offset"])
    return place, f"{found['dlt-exception-fqcn']}: {found['dlt-exception-message'][:200]}"


def _told(report: Report) -> str:
    return f"the auditor: {report}"
