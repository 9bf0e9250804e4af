"""The broker and the service's topics of one run, input in bulk, and what can be seen of a worker from outside."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer

from campaign.cluster import Cluster
from campaign.worker import Worker, wait_until
from streamapp.embedded.kafka import Kafka

_ANSWER_S = 30.0
#: As they ship, in seconds; the embedded broker looks for timed-out transactions every second.
SESSION_S, TRANSACTION_S, SWEEP_S = 10.0, 10.0, 1.0


class Ground:
    """Where one section runs. `input` is sent by its own methods; every transfer posts."""

    def __init__(self, cluster: Cluster, directory: Path, app: str) -> None:
        self.cluster = cluster
        self.directory = directory
        self.app = app
        self.sent = 0
        self.workers: list[Worker] = []
        self._producer = Producer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
            }
        )
        directory.mkdir(parents=True, exist_ok=True)
        cluster.make_topics(app)

    def worker(self, instance: str | None, state: str, *, program: tuple[str, ...] = (), **options: float) -> Worker:
        """A worker process of the service with the time-outs that ship; `program` is another one in its place."""
        name = f"{len(self.workers)}-{instance or 'dynamic'}.log"
        times = {"session_timeout_s": SESSION_S, "transaction_timeout_s": TRANSACTION_S}
        more = {"command": program} if program else {}
        worker = Worker(
            self.cluster.bootstrap, self.app, instance, self.directory / state, self.directory / name,
            **(times | options), **more,
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def send(self, count: int) -> None:
        """So many transfers more, acknowledged when this returns."""
        for number in range(self.sent, self.sent + count):
            self._send(number)
        self.sent += count
        if left := self._producer.flush(_ANSWER_S):
            raise TimeoutError(f"{left} input records were not acknowledged")

    def _send(self, number: int) -> None:
        key = f"@source-{number * 7919 % 1000}"
        value = (
            f'{{"event_id":"t-{number:08}","from_account":"{key}","to_account":"account-{number % 2000}",'
            f'"amount":{number % 90 + 1},"currency":"EUR","occurred_at":"2024-05-01T12:00:00Z"}}'
        )
        while True:
            try:
                self._producer.produce("transfer", value, key)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)

    @contextmanager
    def trickle(self, per_second: float) -> Iterator[None]:
        """Send at a steady rate beside whatever happens."""
        ended = threading.Event()

        def run() -> None:
            while not ended.wait(0.05):
                self.send(max(1, int(per_second / 20)))

        thread = threading.Thread(target=run, name="trickle", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_ANSWER_S)

    def offsets(self, topic: str = "transfer") -> dict[int, int]:
        """The committed offset of each partition of an input."""
        found = self.cluster.committed(self.app)
        return {number: offset for (name, number), offset in found.items() if name == topic}

    def consumed(self, topic: str = "transfer") -> int:
        """How much of an input is committed."""
        return sum(self.offsets(topic).values())

    def until_consumed(self, count: int, bound_s: float, *, topic: str = "transfer") -> None:
        """Wait until so much of an input is committed; a worker that ended is an error at once."""

        told = time.monotonic()

        def done() -> bool:
            nonlocal told
            if time.monotonic() - told > 10:
                told = time.monotonic()
                say(f"{self.consumed(topic):,} of {count:,} of {topic} consumed")
            for worker in self.workers:
                if worker.exit_code not in (None, -9):
                    raise RuntimeError(f"a worker ended with {worker.exit_code}: {worker.tail()}")
            return self.consumed(topic) >= count

        if not wait_until(done, bound_s, 0.2):
            raise TimeoutError(
                f"{self.consumed(topic):,} of {count:,} of {topic} within {bound_s:.0f} s: {self.workers[-1].tail()}"
            )

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()


@contextmanager
def broker(directory: Path) -> Iterator[Cluster]:
    """A Kafka of the run's own."""
    kafka = Kafka(directory / "kafka", port=0, die_with_parent=True)
    kafka.start()
    cluster = Cluster(kafka.bootstrap)
    try:
        yield cluster
    finally:
        cluster.close()
        kafka.kill()


class Use(NamedTuple):
    """What a process has of the machine."""

    resident_bytes: int
    threads: int
    files: int


def use_of(worker: Worker) -> Use:
    """As the kernel says."""
    process = Path("/proc") / str(worker.pid)
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    files = len(os.listdir(process / "fd"))  # noqa: PTH208
    return Use(int(status["VmRSS"].split()[0]) * 1024, int(status["Threads"]), files)


def say(text: str) -> None:
    """A line for who watches, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
