"""Positions on a real Kafka: offsets that are gone, topics that are other ones, records that are deleted; and lag."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

WAIT_S = 40.0
APPS = Path(__file__).parent / "apps"


class Counting:
    """One worker after the other of `apps/counting.py`, which numbers the events of each key out of a table."""

    def __init__(self, bootstrap: str, prefix: str, directory: Path) -> None:
        self.id, self.input, self.output = prefix, f"{prefix}-in", f"{prefix}-out"
        self.positions = f"{prefix}-positions"
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        self._bootstrap = bootstrap
        self._directory = directory
        self._workers: list[subprocess.Popen[bytes]] = []
        self.create()

    def create(self) -> None:
        topic = NewTopic(self.input, 1, 1, config={"message.timestamp.type": "LogAppendTime"})
        self._until(lambda: self._is_created(topic), "the input is not created")

    def _is_created(self, topic: NewTopic) -> bool:
        try:
            self.admin.create_topics([topic])[topic.topic].result(WAIT_S)
        except Exception as exc:  # a topic that is being deleted
            if "exists" not in str(exc):
                raise
            return False
        return True

    def environment(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("STREAMAPP_")}
        return plain | {
            "STREAMAPP_BROKER": self._bootstrap,
            "STREAMAPP_ID": self.id,
            "STREAMAPP_DATADIR": str(self._directory / "state"),
            "STREAMAPP_SESSION_TIMEOUT": "6",
            "STREAMAPP_TRANSACTION_TIMEOUT": "6",
            "STREAMAPP_PARTITIONS": "1",
            "STREAMAPP_WEB_PORT": "0",
            "PYTHONPATH": f"{APPS}{os.pathsep}{Path(__file__).parents[2]}",
            "COUNTING_IN": self.input,
            "COUNTING_OUT": self.output,
        }

    def start(self) -> subprocess.Popen[bytes]:
        """A worker; its output is in the file of its number."""
        with self._log(len(self._workers)).open("wb") as log:
            command = [sys.executable, "-m", "streamapp.cli", "worker", "--app", "counting", "--without-web"]
            worker = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log, cwd=self._directory)
        self._workers.append(worker)
        return worker

    def _log(self, number: int) -> Path:
        return self._directory / f"worker-{number}.log"

    @property
    def said(self) -> str:
        """What the worker that was started last says."""
        return self._log(len(self._workers) - 1).read_text(errors="replace")

    def stop(self) -> None:
        worker = self._workers[-1]
        worker.terminate()
        assert worker.wait(WAIT_S) == 0, self.said
        self._until(self._is_empty, "the group is not empty")

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait(WAIT_S)

    def refused(self, *words: str) -> None:
        """The next worker ends with code 1 or 2 and says these words."""
        assert self.start().wait(WAIT_S) != 0, self.said
        self.has_said(*words)
        self._until(self._is_empty, "the group is not empty")

    def has_said(self, *words: str) -> None:
        flat = " ".join(self.said.split())
        for word in words:
            assert word in flat, self.said

    def _is_empty(self) -> bool:
        group = self.admin.describe_consumer_groups([self.id])[self.id].result(WAIT_S)
        return not group.members

    def send(self, *values: int) -> None:
        producer = Producer({"bootstrap.servers": self._bootstrap})
        for value in values:
            producer.produce(self.input, str(value), "k")
        assert producer.flush(WAIT_S) == 0

    def abort(self, *values: int) -> None:
        """What a transactional sender leaves behind that gives up."""
        producer = Producer({"bootstrap.servers": self._bootstrap, "transactional.id": f"{self.id}-sender"})
        producer.init_transactions(WAIT_S)
        producer.begin_transaction()
        for value in values:
            producer.produce(self.input, str(value), "k")
        assert producer.flush(WAIT_S) == 0
        producer.abort_transaction(WAIT_S)

    def outputs(self, count: int) -> list[str]:
        """So many of what was committed, and what is there beyond it."""
        found: list[str] = []
        consumer = Consumer(
            {"bootstrap.servers": self._bootstrap, "group.id": "unused", "isolation.level": "read_committed"}
        )
        self._until(lambda: self.output in self.admin.list_topics(timeout=WAIT_S).topics, "there is no output")
        consumer.assign([TopicPartition(self.output, 0, OFFSET_BEGINNING)])
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            message = consumer.poll(1.0 if len(found) >= count else 0.2)
            if message is not None and not message.error():
                found.append(message.value().decode())
            elif len(found) >= count:
                break
        consumer.close()
        return found

    def committed(self) -> int | None:
        """The group's offset; None where there is none."""
        asked = ConsumerGroupTopicPartitions(self.id, [TopicPartition(self.input, 0)])
        (place,) = self.admin.list_consumer_group_offsets([asked])[self.id].result(WAIT_S).topic_partitions
        return place.offset if place.offset >= 0 else None

    def reset(self, offset: int) -> None:
        """`kafka-consumer-groups --reset-offsets`."""
        change = ConsumerGroupTopicPartitions(self.id, [TopicPartition(self.input, 0, offset)])
        self.admin.alter_consumer_group_offsets([change])[self.id].result(WAIT_S)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "streamapp.cli", "positions", *arguments]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)

    def accept(self, choice: str) -> None:
        done = self.command("accept", f"{self.input}:0", choice, "--execute")
        assert done.returncode == 0, done.stdout + done.stderr

    def _until(self, is_so: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not is_so():
            assert time.monotonic() < deadline, otherwise
            time.sleep(0.2)

    until = _until


@pytest.fixture
def counting(kafka: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Counting]:
    """A service whose table contains five events, and no worker of it."""
    service = Counting(kafka.bootstrap, topic_prefix, tmp_path)
    try:
        service.start()
        service.send(1, 2, 3, 4, 5)
        assert service.outputs(5) == ["1 1", "2 2", "3 3", "4 4", "5 5"]
        service.stop()
        yield service
    finally:
        service.close()


def test_five_events_do_not_count_ten_when_the_group_is_deleted(counting: Counting) -> None:
    counting.admin.delete_consumer_groups([counting.id])[counting.id].result(WAIT_S)
    assert counting.committed() is None
    counting.start()
    counting.send(6)
    assert counting.outputs(6) == ["1 1", "2 2", "3 3", "4 4", "5 5", "6 6"]
    counting.has_said("no committed offset; it goes on from its position 5")


def test_an_offset_that_was_reset_is_refused_until_one_of_the_two_is_accepted(counting: Counting) -> None:
    counting.reset(2)
    counting.refused(f"the offset of group {counting.id} is 2, and the position is 5", "--position --execute")
    shown = counting.command("show")
    assert shown.returncode == 1 and "would count twice" in shown.stdout
    dry = counting.command("accept", f"{counting.input}:0", "--position")
    assert dry.returncode == 0 and "Nothing was changed" in dry.stdout
    assert counting.committed() == 2
    counting.accept("--position")
    assert counting.committed() == 5
    assert counting.command("show").returncode == 0
    counting.start()
    counting.send(6)
    assert counting.outputs(6)[5:] == ["6 6"]
    busy = counting.command("accept", f"{counting.input}:0", "--earliest", "--execute")
    assert busy.returncode == 1 and "has 1 members" in " ".join(busy.stderr.split())


def test_a_topic_that_is_deleted_and_created_anew_is_read_from_its_start(counting: Counting) -> None:
    counting.admin.delete_topics([counting.input])[counting.input].result(WAIT_S)
    counting.until(lambda: counting.committed() is None, "Kafka keeps a deleted topic's offsets")
    counting.create()
    counting.send(6, 7)
    counting.start()
    assert counting.outputs(7)[5:] == ["6 6", "7 7"]
    counting.has_said("another topic of this name")


def test_records_that_are_deleted_while_it_runs_end_the_worker(counting: Counting) -> None:
    worker = counting.start()
    counting.send(6)
    assert counting.outputs(6)[5:] == ["6 6"]
    worker.send_signal(signal.SIGSTOP)  # nothing is read, and the seat stays for a while
    counting.send(7)  # what the fetch that waits at the broker is answered with
    counting.send(8, 9, 10)
    (deleted,) = counting.admin.delete_records([TopicPartition(counting.input, 0, 9)]).values()
    deleted.result(WAIT_S)
    worker.send_signal(signal.SIGCONT)
    assert worker.wait(WAIT_S) != 0
    counting.has_said("is not in the log any more: it was deleted before it was processed")
    counting.refused("is gone, the topic now begins at 9", "--earliest --execute")
    counting.accept("--earliest")
    before = counting.outputs(6)  # with the seventh, if it had been fetched
    counting.start()
    assert counting.outputs(len(before) + 1) == [*before, f"10 {len(before) + 1}"]


def test_an_input_that_ends_in_aborted_records_has_no_lag(counting: Counting) -> None:
    counting.start()
    counting.abort(6, 7, 8)
    counting.until(lambda: counting.committed() == 9, "the lag stays")  # three aborted records and a marker
    assert len(counting.outputs(5)) == 5
