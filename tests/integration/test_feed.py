"""`feed` on real Kafka: what it counts as acknowledged is what the topic holds."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streamapp.cli.main import run
from streamapp.errors import ConfigurationError, Unavailable
from streamapp.ops import cdnow
from streamapp.ops import feed as feeding
from streamapp.ops.feed import FeedCount, FeedKind, FeedResult, Outcome, feed, numbered
from streamapp.ops.lines import InputLine
from streamapp.settings import load
from streamapp.topics import MAX_BATCH_BYTES, MAX_RECORD_BYTES

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from proxy import Proxy

pytestmark = pytest.mark.kafka

PARTITIONS = 4


@pytest.fixture
def kind(kafka: Any, topic_prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FeedKind]:
    """A topic of the test's own, fed by `feed transfers`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMAPP_BROKER", kafka.bootstrap)
    name = f"{topic_prefix}-transfer"
    client = AdminClient({"bootstrap.servers": kafka.bootstrap})
    sizes = {"max.message.bytes": str(MAX_BATCH_BYTES), "message.timestamp.type": "LogAppendTime"}
    client.create_topics([NewTopic(name, PARTITIONS, 1, config=sizes)])[name].result(60)
    until(lambda: is_led(kafka.bootstrap, name))
    kind = FeedKind(name, "from_account")
    monkeypatch.setattr(feeding, "KINDS", {"transfers": kind})
    monkeypatch.setattr("streamapp.cli.feed.KINDS", {"transfers": kind})
    yield kind
    client.delete_topics([name])[name].result(60)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_led(bootstrap: str, topic: str) -> bool:
    """Whether the leaders of a new topic answer: metadata may name them before they do."""
    try:
        return high_watermarks(bootstrap, topic) == 0
    except KafkaException:
        return False


def in_topic(bootstrap: str, topic: str) -> list[Message]:
    """Everything the topic holds now, partition after partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False})
    try:
        partitions = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
        expected = sum(consumer.get_watermark_offsets(each, timeout=60)[1] for each in partitions)
        consumer.assign(partitions)
        found: list[Message] = []
        deadline = time.monotonic() + 60
        while len(found) < expected:
            assert time.monotonic() < deadline
            found += consumer.consume(expected - len(found), timeout=0.5)
        return found
    finally:
        consumer.close()


def record(number: int, **fields: Any) -> bytes:
    return json.dumps({"event_id": f"e{number}", "from_account": f"@a{number % 50}", "amount": 1, **fields}).encode()


def fed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> tuple[dict[str, Any], str]:
    """The JSON result and the standard error of a `feed` that must end with `code`."""
    assert run(["feed", *arguments, "--json"]) == code
    captured = capsys.readouterr()
    return (json.loads(captured.out) if captured.out else {}), captured.err


MIXED = [
    record(1),
    b"not json",
    record(2, amount="a wrong type is for the service to refuse"),
    b'{"event_id":"x"}',
    b'{"from_account":5}',
    b'{"from_account":"a","pad":"' + b"x" * MAX_RECORD_BYTES + b'"}',
    record(3),
]


def test_every_record_arrives_once_with_its_bytes_its_key_and_its_partition(kafka: Any, kind: FeedKind) -> None:
    sent = [record(number) for number in range(5000)]
    result = feed(load(), kind, numbered(sent))
    assert (result.outcome, result.clean) == (Outcome.COMPLETE, True)
    assert (result.count.read, result.count.sent, result.count.acknowledged) == (5000, 5000, 5000)
    found = in_topic(kafka.bootstrap, kind.topic)
    assert sorted(message.value() or b"" for message in found) == sorted(sent)
    partition_of = DefaultPartitioner()
    for message in found:
        key = message.key() or b""
        assert key.decode() == json.loads(message.value() or b"")["from_account"]
        assert message.partition() == partition_of(key, list(range(PARTITIONS)), [])
    for number in range(PARTITIONS):
        order = [int(json.loads(m.value() or b"")["event_id"][1:]) for m in found if m.partition() == number]
        assert order == sorted(order)


def test_the_largest_record_is_sent_and_an_empty_key_is_a_key(kafka: Any, kind: FeedKind) -> None:
    largest = b'{"from_account":"","pad":"' + b"x" * (MAX_RECORD_BYTES - 28) + b'"}'
    assert len(largest) == MAX_RECORD_BYTES
    assert feed(load(), kind, numbered([largest])).clean
    (found,) = in_topic(kafka.bootstrap, kind.topic)
    assert (found.key(), found.value()) == (b"", largest)


def test_a_key_too_large_to_send_is_a_bad_line(kafka: Any, kind: FeedKind) -> None:
    reasons: list[str] = []
    line = b'{"from_account":"' + b"k" * (MAX_RECORD_BYTES // 2) + b'","pad":"' + b"x" * (MAX_RECORD_BYTES // 3) + b'"}'
    result = feed(load(), kind, numbered([line]), on_error="skip", on_bad_line=lambda _, reason: reasons.append(reason))
    assert (result.count.sent, result.count.skipped) == (0, 1)
    assert reasons == ["key and value together are too large for the topic"]


def test_bad_lines_are_skipped_reported_and_counted(
    kafka: Any, kind: FeedKind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(b"\n".join(MIXED))
    result, said = fed(capsys, "transfers", str(path), "--on-error", "skip", code=1)
    assert [result[name] for name in ("read", "sent", "acknowledged", "skipped")] == [7, 3, 3, 4]
    assert [line.split(":")[0] for line in said.splitlines()] == ["line 2", "line 4", "line 5", "line 6"]
    assert sorted(m.value() or b"" for m in in_topic(kafka.bootstrap, kind.topic)) == sorted(
        MIXED[i] for i in (0, 2, 6)
    )


def test_a_bad_line_stops_by_default_and_says_what_was_kept(
    kafka: Any, kind: FeedKind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(b"\n".join(MIXED))
    result, said = fed(capsys, "transfers", str(path), code=1)
    assert [result[name] for name in ("outcome", "sent", "acknowledged", "last_line")] == ["stopped", 1, 1, 1]
    assert "stopped at line 2" in said
    assert "1 of 1 sent records were acknowledged" in said
    assert len(in_topic(kafka.bootstrap, kind.topic)) == 1


def test_only_the_first_bad_lines_are_printed(
    kind: FeedKind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"bad\n" * 1234)
    result, said = fed(capsys, "transfers", str(path), "--on-error", "skip", code=1)
    assert (result["sent"], result["skipped"]) == (0, 1234)
    assert len(said.splitlines()) == 21
    assert said.splitlines()[-1] == "and 1,214 more bad lines"


@pytest.mark.parametrize(("name", "reason"), [("missing.jsonl", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_misuse(
    kind: FeedKind, name: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, said = fed(capsys, "transfers", name, code=2)
    assert reason in said


def test_a_missing_topic_is_told_and_not_created(
    kafka: Any, topic_prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMAPP_BROKER", kafka.bootstrap)
    monkeypatch.setattr("streamapp.cli.feed.KINDS", {"transfers": FeedKind(f"{topic_prefix}-no", "from_account")})
    _, said = fed(capsys, "transfers", "/dev/null", code=1)
    assert f"has no topic {topic_prefix}-no. Nothing was sent. Create it with `streamapp topics apply`" in said
    with pytest.raises(ConfigurationError):
        feed(load(), FeedKind(f"{topic_prefix}-no", "from_account"), numbered([record(1)]))


def test_a_wrong_address_is_told_in_bounded_time() -> None:
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 did not answer within 1 s"):
        feed(load(broker="127.0.0.1:1"), FeedKind("t", "k"), numbered([]), reach_timeout_s=1)
    assert time.monotonic() - begun < 30


def test_a_rate_is_kept_evenly(kafka: Any, kind: FeedKind) -> None:
    moments: list[float] = []

    def lines() -> Iterator[bytes]:
        for number in range(100):
            moments.append(time.monotonic())
            yield record(number)

    result = feed(load(), kind, numbered(lines()), rate=100)
    assert result.count.acknowledged == 100
    assert result.count.seconds >= 0.99
    # Even, not in bursts: no twenty lines (0.2 s of the beat) were read in less than half that time.
    assert min(later - earlier for earlier, later in zip(moments, moments[20:], strict=False)) >= 0.1 - 0.02


def test_stopping_leaves_a_true_count(kafka: Any, kind: FeedKind) -> None:
    stop = threading.Event()
    told: list[int] = []

    def endless() -> Iterator[bytes]:
        number = 0
        while True:
            number += 1
            yield record(number)

    def on_progress(count: FeedCount) -> None:
        told.append(count.acknowledged)
        if count.acknowledged > 1000:
            stop.set()

    result = feed(load(), kind, numbered(endless()), stop=stop, on_progress=on_progress)
    assert result.outcome is Outcome.INTERRUPTED
    assert result.count.acknowledged == result.count.sent == len(in_topic(kafka.bootstrap, kind.topic)) > 1000
    assert told == sorted(told)


COMMAND = """
from streamapp.cli import feed, main
feed.KINDS["transfers"] = type(feed.KINDS["transfers"])({topic!r}, "from_account")
main.main()
"""


@contextlib.contextmanager
def started(kind: FeedKind, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`feed` as a process of its own, gone at the end whatever happens."""
    command = [sys.executable, "-c", COMMAND.format(topic=kind.topic), "feed", *arguments, "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_the_count_of_the_topic(
    kafka: Any, kind: FeedKind, tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "many.jsonl"
    path.write_bytes(b"\n".join(record(n) for n in range(10_000)))
    with started(kind, "transfers", str(path), "--rate", "500") as process:
        until(lambda: high_watermarks(kafka.bootstrap, kind.topic) >= 100)
        process.send_signal(number)
        out, said = process.communicate(timeout=60)
    result = json.loads(out)
    assert (process.returncode, result["outcome"]) == (130, "interrupted")
    assert 100 <= result["acknowledged"] < 10_000
    assert result["acknowledged"] == result["sent"] == len(in_topic(kafka.bootstrap, kind.topic))
    assert "Traceback" not in said


def high_watermarks(bootstrap: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none"})
    try:
        ends = (consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=60)[1] for n in range(PARTITIONS))
        return sum(ends)
    finally:
        consumer.close()


def test_lines_come_from_a_pipe_as_they_are_written(kafka: Any, kind: FeedKind) -> None:
    with started(kind, "transfers", "-") as process:
        assert process.stdin is not None
        process.stdin.write(record(1).decode() + "\n")
        process.stdin.flush()
        until(lambda: high_watermarks(kafka.bootstrap, kind.topic) == 1)  # acknowledged while the pipe is open
        out, _ = process.communicate(record(2).decode(), timeout=60)
    assert (process.returncode, json.loads(out)["acknowledged"]) == (0, 2)


def test_the_purchases_are_sent_in_their_order_as_transfers_and_as_payments(
    kafka: Any, kind: FeedKind, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One topic for both: what is in it then must be the first purchases of each kind, and nothing else.
    kinds = {"transfers": kind, "payments": FeedKind(kind.topic, "merchant_id")}
    monkeypatch.setattr("streamapp.cli.feed.KINDS", kinds)
    result, _ = fed(capsys, "cdnow", "--limit", "2000", code=0)
    assert [(it["read"], it["acknowledged"]) for it in result["feeds"]] == [(2000, 2000)] * 2
    cached = cdnow.fetch()
    first = [*itertools.islice(cdnow.transfers(cached), 2000), *itertools.islice(cdnow.payments(cached), 2000)]
    found = in_topic(kafka.bootstrap, kind.topic)
    assert sorted(m.value() or b"" for m in found) == sorted(first)
    payments = [m.value() for m in found if m.key() == b"cdnow"]
    assert payments == first[2000:], "payments of one merchant are in one partition, in their order"


def test_the_transfers_are_told_when_the_payments_topic_is_missing(
    kind: FeedKind, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"transfers": kind, "payments": FeedKind(f"{kind.topic}-no", "merchant_id")}
    monkeypatch.setattr("streamapp.cli.feed.KINDS", kinds)
    result, said = fed(capsys, "cdnow", "--limit", "20", code=1)
    assert [it["acknowledged"] for it in result["feeds"]] == [20]
    assert f"has no topic {kind.topic}-no" in said


def test_a_broker_that_falls_silent_ends_it_with_what_was_acknowledged(kafka: Any, kind: FeedKind) -> None:
    with Proxy(kafka.bootstrap) as proxy:
        told: list[int] = []

        def lines() -> Iterator[InputLine | None]:
            yield from numbered(map(record, range(1000)))
            while not told or told[-1] < 1000:
                time.sleep(0.01)
                yield None  # nothing to send until all of it is acknowledged
            proxy.freeze()
            yield from numbered(map(record, range(1000, 2000)))

        begun = time.monotonic()
        settings = load(broker=proxy.bootstrap)
        result: FeedResult = feed(
            settings, kind, lines(), delivery_timeout_s=5.0, on_progress=lambda it: told.append(it.acknowledged)
        )
    assert time.monotonic() - begun < 60
    assert result.outcome is Outcome.FAILED
    assert result.reason.startswith("Kafka did not acknowledge a record in time")
    assert (result.count.sent, result.count.acknowledged) == (2000, 1000)
    assert len(in_topic(kafka.bootstrap, kind.topic)) == 1000
