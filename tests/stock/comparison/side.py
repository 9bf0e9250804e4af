"""One engine in one scenario: its topics, its worker processes, its input, and what is committed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from group_offsets import GroupOffsets

REPOSITORY = Path(__file__).resolve().parents[3]
FAUST = Path(sys.executable).with_name("faust")
PARTITIONS = 2
_ANSWER_S = 20.0
#: Stock Faust restores for 12 s at least, and begins to work some seconds before and after that.
_STARTED_S = 60.0


class Side:
    """`engine` is `stock` or `ours`."""

    def __init__(self, bootstrap: str, engine: str, scenario: str, directory: Path, run: str) -> None:
        self.engine = engine
        self.directory = directory / f"{scenario}-{engine}"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.prefix = f"{run}-{scenario}-{engine}".replace("_", "-")
        self.bootstrap, self._scenario = bootstrap, scenario
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._offsets = GroupOffsets(bootstrap, f"{self.prefix}-app")
        self._workers = 0
        names = [f"{self.prefix}-{name}" for name in ("in", "out")]
        stamped = {"message.timestamp.type": "LogAppendTime"}
        for future in self._admin.create_topics([NewTopic(it, PARTITIONS, 1, config=stamped) for it in names]).values():
            future.result(_ANSWER_S)

    @property
    def log(self) -> str:
        """What all its workers said."""
        return "".join(file.read_text(errors="replace") for file in sorted(self.directory.glob("worker-*.log")))

    @contextmanager
    def worker(self, *, commit_s: float = 0.3, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker process; killed at the end if it still runs."""
        self._workers += 1
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMAPP_", "FAULT_"))}
        env = plain | {
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests/stock")]),
            "ENGINE": self.engine,
            "SCENARIO": self._scenario,
            "PREFIX": self.prefix,
            "PROCESSED": str(self.directory / "processed"),
            "COMMIT_S": str(commit_s),
            "STREAMAPP_BROKER": self.bootstrap,
            "STREAMAPP_ID": f"{self.prefix}-app",
            "STREAMAPP_DATADIR": str(self.directory / f"state-{environment.pop('STATE', '1')}"),
            "STREAMAPP_COMMIT_INTERVAL": str(commit_s),
            "STREAMAPP_PARTITIONS": str(PARTITIONS),
            **environment,
        }
        with (self.directory / f"worker-{self._workers:02}.log").open("wb") as log:
            process = subprocess.Popen(
                [FAUST, "-A", "comparison.app", "worker", "-l", "info", "--without-web"],
                env=env, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(_ANSWER_S)

    def send(self, values: Iterable[int], partition: int = -1) -> None:
        """Each value under a key of its own."""
        producer = Producer(
            {"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "partitioner": "murmur2_random"}
        )
        for value in values:
            producer.produce(f"{self.prefix}-in", json.dumps(value), f"key-{value}", partition)
        if producer.flush(_ANSWER_S):
            raise TimeoutError("the input was not acknowledged")

    def processed(self) -> list[str]:
        """The lines that the agents noted."""
        file = self.directory / "processed"
        return file.read_text().split() if file.exists() else []

    def close(self) -> None:
        """Give its connection back; what runs was ended by `worker`."""
        self._offsets.close()

    def offset(self) -> int:
        """The committed offsets of the input, summed up."""
        return sum(self._offsets.committed([f"{self.prefix}-in"], PARTITIONS).values())

    def committed(self, topic: str = "out") -> list[Any]:
        """Values of every committed record; for `changelog:<table>`, its keys."""
        kind, _, table = topic.partition(":")
        name = f"{self.prefix}-app-{table}-changelog" if kind == "changelog" else f"{self.prefix}-{topic}"
        options = {"bootstrap.servers": self.bootstrap, "group.id": "reader", "enable.auto.commit": False}
        reader = Consumer({**options, "isolation.level": "read_committed", "enable.partition.eof": True})
        try:
            partitions = reader.list_topics(name, _ANSWER_S).topics[name].partitions
            reader.assign([TopicPartition(name, number, 0) for number in partitions])
            found, ends, until = [], set(), time.monotonic() + _ANSWER_S
            while len(ends) < len(partitions) and time.monotonic() < until:
                for message in reader.consume(1000, 0.1):
                    if message.error():
                        ends.add(message.partition())
                    else:
                        found.append((message.key() if kind == "changelog" else message.value() or b"").decode())
            return found
        finally:
            reader.close()

    def settled(self, *, quiet_s: float = 4.0, bound_s: float = 40.0) -> list[Any]:
        """The committed outputs, once nothing has come for a while."""
        until, moved, found = time.monotonic() + bound_s, time.monotonic(), self.committed()
        while time.monotonic() - moved < quiet_s and time.monotonic() < until:
            time.sleep(0.3)
            if len(now := self.committed()) != len(found):
                found, moved = now, time.monotonic()
        return found


def came(condition: Callable[[], bool], bound_s: float = _STARTED_S) -> bool:
    """Whether it became true within the time."""
    until = time.monotonic() + bound_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
