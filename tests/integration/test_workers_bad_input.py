"""What people and machines do to a running worker: it says so in a sentence, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import odd_names
from service import BOUND_S, PARTITIONS, Service, wait_until

from streamapp.eos.partitioner import partition_of
from streamapp.types import Partition

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.fixture
def service(kafka: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Service]:
    with Service(kafka.bootstrap, topic_prefix, tmp_path) as service:
        service.create_topics()
        yield service


def ended(worker: Any, *texts: str, code: int = 2) -> None:
    """The worker has ended by itself with this code and says each of these in its last line."""
    assert worker.wait() == code, worker.said
    last = worker.said[worker.said.rindex("error: ") :]
    for text in texts:
        assert text in last, worker.said


def test_an_input_topic_that_is_deleted_ends_the_worker_with_its_name(service: Service) -> None:
    worker = service.worker()
    worker.until("ready after")
    service.feed(100)
    service.assert_pass()
    service.admin.delete_topics([service.topics.transfer])[service.topics.transfer].result(BOUND_S)
    ended(worker, f"{service.topics.transfer} or {service.topics.transfer_dlt} was deleted under this worker")


def test_transfers_with_a_header_whose_name_is_no_text_are_transfers(service: Service) -> None:
    service.feed(200)
    odd = [service._transfer() for _ in range(20)]
    for key, value in odd:
        at = Partition(service.topics.transfer, partition_of(key, PARTITIONS))
        headers = ((odd_names.NAME, b"\xff"),)
        asyncio.run(odd_names.append(service.bootstrap, at, [(key, value, 0, headers)]))
    # One that is also bad: its dead letter has the header as it was read.
    at = Partition(service.topics.transfer, 0)
    asyncio.run(odd_names.append(service.bootstrap, at, [(b"account-1", b"no json", 0, ((odd_names.NAME, b"v"),))]))
    worker = service.worker()
    service.feed(200)
    report = service.assert_pass()
    assert report.records_read[service.topics.transfer] == 421
    ((_, letter),) = service.read(service.topics.transfer_dlt)
    assert odd_names.READ in letter
    assert worker.said.count("is not UTF-8") <= PARTITIONS, worker.said
    assert worker.exit_code is None, worker.said
    assert worker.stop() == 0, worker.said


def test_partitions_that_are_added_end_the_worker_and_the_next_one_refuses(service: Service) -> None:
    worker = service.worker()
    worker.until("ready after")
    service.feed(100)
    service.assert_pass()
    more = NewPartitions(service.topics.transfer, PARTITIONS + 2)
    service.admin.create_partitions([more])[service.topics.transfer].result(BOUND_S)
    ended(worker, f"{service.topics.transfer} has {PARTITIONS + 2} partitions", "keys have moved away from their state")
    ended(service.worker(), f"{service.topics.transfer}", f"{PARTITIONS + 2}", "partitions")


def test_an_input_with_its_senders_stamps_is_refused_until_the_command_has_changed_it(service: Service) -> None:
    topic = service.topics.transfer

    def set_stamps(kind: str) -> None:
        entry = ConfigEntry("message.timestamp.type", kind, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource("topic", topic, incremental_configs=[entry])
        for future in service.admin.incremental_alter_configs([resource]).values():
            future.result(BOUND_S)

    set_stamps("CreateTime")
    service.feed(50)
    ended(service.worker(), f"{topic} has its senders' stamps", f"--entity-name {topic}", "LogAppendTime", "an inbox")
    set_stamps("LogAppendTime")
    worker = service.worker()
    worker.until("ready after")
    service.feed_again(50)
    service.feed(50)
    # The auditor does not judge records that keep their senders' stamps, so the offsets are what is looked at.
    service.until_committed(150)
    assert worker.stop() == 0, worker.said


def deleted(service: Service, places: list[TopicPartition]) -> bool:
    """Whether the brokers have deleted what lies before; not before they know the new policy."""
    try:
        for future in service.admin.delete_records(places).values():
            future.result(BOUND_S)
    except KafkaException as exc:
        assert exc.args[0].code() == KafkaError.POLICY_VIOLATION, exc
        return False
    return True


def filled(service: Service, topic: str) -> list[int]:
    """The partitions that hold anything: a few accounts need not lie in all of them."""
    consumer = Consumer({"bootstrap.servers": service.bootstrap, "group.id": f"{service.id}-look"})
    try:
        ends = {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=BOUND_S) for n in range(PARTITIONS)}
        return [number for number, (_, high) in ends.items() if high > 0]
    finally:
        consumer.close()


def truncate(service: Service, before: int) -> str:
    """Delete the first records of the balances' changelog, as a retention that somebody has set would."""
    topic = f"{service.id}-balances-changelog"

    def set_policy(policy: str) -> None:
        entry = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource("topic", topic, incremental_configs=[entry])
        for future in service.admin.incremental_alter_configs([resource]).values():
            future.result(BOUND_S)

    set_policy("compact,delete")
    places = [TopicPartition(topic, number, before) for number in filled(service, topic)]
    assert places, f"{topic} is empty"
    wait_until(lambda: deleted(service, places), lambda: f"records of {topic} cannot be deleted")
    set_policy("compact")
    return topic


def test_a_changelog_truncated_below_the_checkpoint_harms_warm_state_not_and_an_empty_one_is_refused(
    service: Service,
) -> None:
    worker = service.worker()
    service.feed(300)
    worker.until("ready after")
    service.assert_pass()
    assert worker.stop() == 0, worker.said
    topic = truncate(service, before=1)
    service.feed(100)
    ended(service.worker(state="empty"), f"{topic}[", "begins at 1, and the store on disk is empty")
    again = service.worker()
    service.assert_pass()
    assert again.stop() == 0, again.said


def test_a_changelog_truncated_above_the_checkpoint_is_refused(service: Service) -> None:
    older = service.worker("older", state="old")
    service.feed(200)
    older.until("ready after")
    service.assert_pass()
    assert older.stop() == 0, older.said
    newer = service.worker("newer", state="new")
    service.feed(200)
    newer.until("ready after")
    service.assert_pass()
    assert newer.stop() == 0, newer.said
    topic = truncate(service, before=-1)  # all of it
    ended(service.worker("older", state="old"), f"{topic}[", "were deleted, so it cannot be restored")


#: A small disk of the worker's own, which goes away with it; the test reaches it through /proc.
SMALL_DISK = 'mount -t tmpfs -o size=64m tmpfs "$1" || exit 77; shift; exec "$@"'


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is a tmpfs, which only root can mount")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="a small disk needs unshare(1)")
def test_a_full_disk_ends_the_worker_and_the_next_one_goes_on(service: Service, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    in_namespace = ("unshare", "--mount", "sh", "-c", SMALL_DISK, "sh", str(small))
    if subprocess.run([*in_namespace, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no mount namespace here")
    worker = service.worker(state="small", wrap=in_namespace)
    worker.until("ready after")
    feeding = service.feeding(1500, rate=500)
    service.until_committed(100)
    with contextlib.suppress(OSError), Path(f"/proc/{worker.pid}/root{small}/filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1 << 16))
    ended(worker, "No space left", code=1)
    feeding.join(60)
    heir = service.worker(state="large")
    service.assert_pass()
    assert heir.stop() == 0, heir.said


#: The worker's wall clock, which jumps by what is in a file.
_JUMPING = """\
import time
from pathlib import Path

_now = time.time


def jumped():
    try:
        return _now() + float(Path("jump").read_text())
    except (OSError, ValueError):
        return _now()


time.time = jumped
"""


def test_a_wall_clock_that_jumps_changes_nothing(service: Service, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(_JUMPING + own.read_text())
    worker = service.worker()
    worker.until("ready after")
    feeding = service.feeding(900, rate=300)
    for number, jump_s in enumerate((86_400 * 30, -86_400 * 30, 3), 1):
        (tmp_path / "jump").write_text(str(jump_s))
        service.until_committed(number * 200)
    feeding.join(60)
    service.assert_pass()
    assert service.read(service.topics.transfer_dlt) == []
    assert worker.stop() == 0, worker.said


_NULL_KEY = """
raw = {"key_serializer": "raw", "value_type": bytes, "value_serializer": "raw"}
totals = app.topic("null-key-totals", **raw)
orders = app.topic("null-key-orders", **raw)


@app.agent(orders)
async def count(stream):
    async for value in stream:
        await totals.send(key=None if value == b"bad" else value, value=value)
"""


def test_a_null_key_to_a_compacted_topic_is_a_dead_letter(service: Service, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        own.read_text().replace("app = use(Prefixed())", "app = use(Prefixed(autodiscover=False))") + _NULL_KEY
    )
    names = {name: f"{service.id}-null-key-{name}" for name in ("totals", "orders", "orders-dlt")}
    service.create(names["orders"])
    service.create(names["totals"], **{"cleanup.policy": "compact"})
    service.send(names["orders"], [b"a", b"bad", b"b"])
    worker = service.worker()
    worker.until("ready after")
    service.until_committed(3, topic=names["orders"])
    wait_until(lambda: len(service.read(names["totals"])) == 2, lambda: worker.said)
    assert sorted(value for value, _ in service.read(names["totals"])) == [b"a", b"b"]
    wait_until(lambda: len(service.read(names["orders-dlt"])) == 1, lambda: worker.said)
    ((value, headers),) = service.read(names["orders-dlt"])
    assert value == b"bad"
    assert "key" in headers["dlt-exception-message"]
    assert worker.stop() == 0, worker.said
