"""The transfer service as real worker processes on topics of a test's own, fed and audited from outside."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from group_offsets import GroupOffsets
from signals import terminate

from streamapp import settings as settings_
from streamapp.audit import Report, Topics, audit
from streamapp.topics import specs

ROOT = Path(__file__).parents[2]
#: Longer than anything here takes, on a loaded machine too.
BOUND_S = 90.0
PARTITIONS = 4

#: The service's own agents, on topics with a prefix.
_APP = """\
import os
from streamapp.app import App, use


class Prefixed(App):
    def topic(self, *topics, **options):
        prefix = os.environ["PREFIX"]  # changelogs have the app's id in front of them already
        return super().topic(*(name if name.startswith(prefix) else prefix + name for name in topics), **options)


app = use(Prefixed())
"""


class Worker:
    """One worker process, with what it says."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path, log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, text: str, times: int = 1, *, bound_s: float = BOUND_S) -> None:
        """Wait until it has said this so often."""
        wait_until(
            lambda: self.said.count(text) >= times or self._died(text), lambda: f"no {text!r}: {self.said}", bound_s
        )

    def _died(self, text: str) -> bool:
        assert self.exit_code is None, f"it ended with {self.exit_code} before it said {text!r}: {self.said}"
        return False

    def wait(self, bound_s: float = BOUND_S) -> int:
        """Its exit code, once it has ended by itself."""
        return self._process.wait(bound_s)

    def send(self, number: signal.Signals) -> None:
        """Nothing happens if it has ended. SIGTERM waits until the worker has its handler."""
        if number == signal.SIGTERM:
            terminate(self._process)
        else:
            self._process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL, also when it is stopped or gone."""
        self._process.kill()
        self._process.wait(BOUND_S)


class Service:
    """One test's service: its topics, workers, input and audit. A context manager that leaves no process behind."""

    def __init__(self, bootstrap: str, prefix: str, directory: Path) -> None:
        self.bootstrap = bootstrap
        self.id = prefix
        self.topics = Topics.prefixed(f"{prefix}-")
        self._directory = directory
        self._workers: list[Worker] = []
        self._fed = 0
        self._sent: list[tuple[bytes, bytes]] = []
        self._random = random.Random(prefix)
        directory.joinpath("own.py").write_text(_APP)
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        self._offsets = GroupOffsets(bootstrap, prefix)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        self._offsets.close()

    def create_topics(self, partitions: int = PARTITIONS) -> None:
        """The contract's topics, so that they can be fed before a worker runs, with their leaders elected."""
        settings = settings_.Settings(broker=self.bootstrap, id=self.id, partitions=partitions)
        declared = {it.name: it for it in specs(settings, 1)}
        wanted = (declared[name.removeprefix(f"{self.id}-")] for name in self.topics.all)
        made = [NewTopic(f"{self.id}-{it.name}", partitions, 1, config=dict(it.config)) for it in wanted]
        for answer in self.admin.create_topics(made).values():
            answer.result(BOUND_S)

    def create(self, topic: str, partitions: int = PARTITIONS, **config: str) -> None:
        """A topic, its leaders elected."""
        self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(BOUND_S)

    def worker(
        self,
        instance: str | None = "one",
        *options: str,
        state: str = "state",
        wrap: tuple[str, ...] = (),
        root: Path = ROOT,
        **settings: Any,
    ) -> Worker:
        """A worker that has been started, by the command `wrap` if there is one; `settings` are `STREAMAPP_` ones.

        `root`: the tree whose code it runs.
        """
        values = {
            "BROKER": self.bootstrap,
            "ID": self.id,
            "DATADIR": self._directory / state,
            "SESSION_TIMEOUT": 3,
            "TRANSACTION_TIMEOUT": 2,
            "PARTITIONS": PARTITIONS,
            "WEB_PORT": 0,
            **({"INSTANCE": instance} if instance else {}),
            **settings,
        }
        plain = {name: value for name, value in os.environ.items() if not name.startswith("STREAMAPP_")}
        environment = plain | {f"STREAMAPP_{name}": str(value) for name, value in values.items()}
        environment |= {"PYTHONPATH": f"{root}", "PREFIX": f"{self.id}-"}
        command = [*wrap, sys.executable, "-m", "streamapp.cli", "worker", "--app", "own", *options]
        log = self._directory / f"worker-{len(self._workers)}.log"
        worker = Worker(command, environment, self._directory, log)
        self._workers.append(worker)
        return worker

    def feed(self, count: int, rate: float | None = None) -> None:
        """Transfers between 20 accounts and the outside, acknowledged when this returns."""
        self._feed((self._transfer() for _ in range(count)), rate)

    def feed_again(self, count: int) -> None:
        """The first `count` that were fed, once more: a sender that repeats them."""
        self._feed(self._sent[:count], None)

    def _feed(self, transfers: Iterable[tuple[bytes, bytes]], rate: float | None) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 2,
                "enable.idempotence": True,
            }
        )
        failed: list[Any] = []
        for number, (key, value) in enumerate(transfers):
            producer.produce(
                self.topics.transfer, value, key, on_delivery=lambda error, _: failed.append(error) if error else None
            )
            producer.poll(1 / rate if rate and number % 10 == 0 else 0)
            if rate:
                time.sleep(1 / rate)
        assert producer.flush(BOUND_S) == 0
        assert not failed, failed[0]

    def feeding(self, count: int, rate: float) -> threading.Thread:
        """The same beside the test; join it."""
        thread = threading.Thread(target=self.feed, args=(count, rate), daemon=True)
        thread.start()
        return thread

    def _transfer(self) -> tuple[bytes, bytes]:
        self._fed += 1
        accounts = ["@bank", *(f"account-{number}" for number in range(20))]
        source, target = self._random.sample(accounts, 2)
        fields = {
            "event_id": f"t-{self._fed}",
            "from_account": source,
            "to_account": target,
            "amount": self._random.randint(1, 500),
            "currency": "EUR",
            "occurred_at": "2024-05-01T12:00:00Z",
        }
        self._sent.append((source.encode(), json.dumps(fields).encode()))
        return self._sent[-1]

    def committed(self, topic: str | None = None) -> int:
        """The sum of the group's committed offsets of an input (the transfers)."""
        return sum(self._offsets.committed([topic or self.topics.transfer], PARTITIONS).values())

    def until_committed(self, offset: int, topic: str | None = None) -> None:
        wait_until(
            lambda: self.committed(topic) >= offset, lambda: f"{self.committed(topic)} of {offset}: {self._all()}"
        )

    def send(self, topic: str, values: list[bytes]) -> None:
        """Values, each its own key."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True})
        for value in values:
            producer.produce(topic, value, value, partition=0)
        assert producer.flush(BOUND_S) == 0

    def read(self, topic: str) -> list[tuple[bytes | None, dict[str, str]]]:
        """Every committed record of a topic: value and headers."""
        options = {"bootstrap.servers": self.bootstrap, "group.id": "none", "enable.auto.commit": False}
        consumer = Consumer({**options, "isolation.level": "read_committed", "enable.partition.eof": True})
        try:
            consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
            found, ends = [], 0
            while ends < PARTITIONS:
                message = consumer.poll(BOUND_S)
                assert message is not None, f"no end of {topic}"
                if message.error() is not None:
                    ends += 1
                else:
                    headers = {name: (value or b"").decode() for name, value in message.headers() or []}
                    found.append((message.value(), headers))
            return found
        finally:
            consumer.close()

    def audit(self, config: dict[str, str] | None = None, timeout_s: float = 10.0) -> Report:
        """The verdict once everything that was fed is consumed."""
        config = config or {"bootstrap.servers": self.bootstrap}
        return audit(config, group=self.id, topics=self.topics, wait_s=BOUND_S, timeout_s=timeout_s)

    def assert_pass(self) -> Report:
        give_up = time.monotonic() + BOUND_S
        # A leader that has just come back may not answer yet, and then the auditor does not know.
        while (report := self.audit()).verdict.name == "UNKNOWN" and time.monotonic() < give_up:
            time.sleep(0.5)
        assert report.verdict.name == "PASS", f"{report}\n{self._all()}"
        return report

    def _all(self) -> str:
        return "\n".join(f"== {worker.log.name} ({worker.exit_code})\n{worker.said}" for worker in self._workers)


def wait_until(condition: Callable[[], bool], problem: Callable[[], str], bound_s: float = BOUND_S) -> None:
    """Poll a condition; what `problem` says, when the time is up."""
    give_up = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < give_up, problem()
        time.sleep(0.03)
