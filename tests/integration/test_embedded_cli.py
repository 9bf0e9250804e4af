"""`streamapp up|down|status` as a person or a script runs them, on a PATH without Java, Maven and PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from streamapp.embedded import disk, jars, ports, process, wire
from streamapp.embedded.kafka import Kafka
from streamapp.embedded.postgres import Postgres
from streamapp.errors import ConfigurationError, StoreError

# The time-out is for a machine that is busy with much else; alone, the longest takes some 20 s.
pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from streamapp.cli.main import main; main()"]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", jars.CACHE_VARIABLE)}
    return kept | {"PATH": "/nonexistent", "PYTHONPATH": str(ROOT)}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One command to its end; the servers it starts do not hold its pipes open, or this would not return."""
    words = [*COMMAND, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=200, env=environment(), check=False)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A data directory in which nothing is left running, whatever the test did."""
    yield tmp_path / "run"
    run("down", "--data-dir", tmp_path / "run")


def status(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("status", "--json", "--data-dir", place).stdout)
    return found


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, "it did not come true in time"
        time.sleep(0.02)


async def ask(url: str, query: str) -> Any:
    connection = await asyncpg.connect(url, timeout=60)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def read_one(bootstrap: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        message = consumer.poll(60)
        assert message is not None and message.error() is None
        return bytes(message.value() or b"")
    finally:
        consumer.close()


async def test_detached_life_from_first_up_over_a_crash_to_down(place: Path) -> None:
    up = run("up", "--detach", "--json", "--data-dir", place)
    assert up.returncode == 0, up.stderr
    first = json.loads(up.stdout)
    assert first["state"] == "running" and first["kafka_version"] == jars.version()

    second = run("up", "--detach", "--data-dir", place)
    assert second.returncode == 2 and "Traceback" not in second.stderr
    assert first["broker"] in second.stderr and "streamapp down" in second.stderr

    assert await ask(first["database_url"], "select 1") == 1
    await ask(first["database_url"], "create table kept (a int)")
    admin = AdminClient({"bootstrap.servers": first["broker"]})
    admin.create_topics([NewTopic("kept", 1)])["kept"].result(60)
    producer = Producer({"bootstrap.servers": first["broker"], "acks": "all", "log_level": 0})
    producer.produce("kept", b"before the crash")
    assert producer.flush(60) == 0

    node = first["servers"][0]
    os.kill(node["pid"], signal.SIGKILL)
    until(lambda: process.birth(node["pid"]) is None)
    broken = run("status", "--data-dir", place)
    assert broken.returncode == 1
    assert "Kafka node 1 ended: it ended without a word" in broken.stdout and "  | " in broken.stdout

    again = run("up", "--detach", "--json", "--data-dir", place)
    assert again.returncode == 0 and "Kafka node 1 had ended" in again.stderr, again.stderr
    found = json.loads(again.stdout)
    assert found["cluster_id"] == first["cluster_id"]
    assert read_one(found["broker"], "kept") == b"before the crash"
    assert await ask(found["database_url"], "select count(*) from kept") == 0

    down = run("down", "--json", "--data-dir", place)
    assert down.returncode == 0 and json.loads(down.stdout)["stopped"] == ["Kafka node 1", "PostgreSQL"]
    assert not any(process.birth(server["pid"]) for server in found["servers"])
    assert run("status", "--data-dir", place).returncode == 1
    assert run("down", "--data-dir", place).returncode == 0


@contextlib.contextmanager
def foreground(place: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An `up` without --detach, once it serves."""
    with log.open("wb") as output:
        words = [*COMMAND, "up", "--without-postgres", "--data-dir", str(place)]
        child = subprocess.Popen(words, stdout=output, stderr=output, env=environment())
    try:
        until(lambda: "Ctrl-C ends them" in log.read_text() or child.poll() is not None, 120)
        assert child.poll() is None, log.read_text()
        yield child
    finally:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(40)
        child.kill()
        child.wait(10)


@contextlib.contextmanager
def occupied(port: int) -> Iterator[bool]:
    """We listen on this port for as long; False if somebody else does, who may leave any time."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            yield False
        else:
            yield True


def test_foreground_ends_by_ctrl_c_and_says_why_when_its_broker_died(place: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with occupied(9092) as ours, foreground(place, log) as up:
        found = status(place)
        said = log.read_text()
        assert found["state"] == "running"
        if ours:
            assert not found["broker"].endswith(":9092")
            assert "port 9092 is taken by" in said and f"STREAMAPP_BROKER={found['broker']}" in said
        up.send_signal(signal.SIGINT)
        assert up.wait(90) == 0, log.read_text()
    assert process.birth(found["servers"][0]["pid"]) is None
    assert status(place)["state"] == "stopped"

    (place / "servers.json").write_text("{ half a reco")  # does no harm
    with foreground(place, log) as up:
        os.kill(status(place)["servers"][0]["pid"], signal.SIGKILL)
        assert up.wait(90) == 1
    said = log.read_text()
    assert "Kafka's node 1 ended: it was ended by SIGKILL." in said and "  | " in said and "Traceback" not in said


def test_down_while_it_starts_leaves_nothing(place: Path, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as output:
        words = [*COMMAND, "up", "--detach", "--data-dir", str(place)]
        up = subprocess.Popen(words, stdout=output, stderr=output, env=environment())
    until((place / "servers.json").exists)
    pids = [server["process"]["pid"] for server in json.loads((place / "servers.json").read_text())["servers"]]
    assert pids and run("down", "--data-dir", place).returncode == 0
    # 0 where it was quicker than `down`, which had to start as well.
    assert up.wait(90) in (0, 1), (tmp_path / "log").read_text()
    assert not any(map(process.birth, pids))


def test_port_taken(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        up = run("up", "--detach", "--without-postgres", "--port", str(port), "--data-dir", place)
    assert up.returncode == 2 and f"--port {port}: process {os.getpid()}" in up.stderr, up.stderr
    assert status(place)["state"] == "stopped"


def test_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        up = run("up", "--detach", "--data-dir", place)
        assert up.returncode == 2 and "--data-dir" in up.stderr and "Traceback" not in up.stderr, up.stderr


def test_nodes_other_than_those_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"cluster_id": "c", "nodes": 3}')
    with pytest.raises(ConfigurationError, match="--nodes 3"):
        Kafka(tmp_path).start()
    assert run("up", "--nodes", "2", "--data-dir", tmp_path / "two").returncode == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "small"
    place.mkdir()
    words = ["/bin/mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    mount = subprocess.run(words, capture_output=True, check=False)
    if mount.returncode:
        pytest.skip(f"this machine mounts no tmpfs: {mount.stderr.decode().strip()}")
    yield place
    subprocess.run(["/bin/umount", "-l", str(place)], check=True)


def test_disk_full(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up = run("up", "--detach", "--data-dir", small_disk / "run")
    assert up.returncode == 1 and "is full" in up.stderr and "Traceback" not in up.stderr, up.stderr
    monkeypatch.setattr(disk, "SPACE_NEEDED_MIB", 0)  # as if it filled up after that look
    with pytest.raises(StoreError, match="the disk is full"):
        Postgres(small_disk / "postgres", die_with_parent=True).start()
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(25 << 20))
    with pytest.raises(StoreError, match=r"disk .*is full"):
        Kafka(small_disk / "kafka", die_with_parent=True).start()


def test_a_port_lost_to_someone_quicker_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_choice, choices = ports.choose, []
    with socket.create_server(("127.0.0.1", 0)) as quicker:

        def choose(*arguments: Any) -> int:
            choices.append(real_choice(*arguments) if choices else int(quicker.getsockname()[1]))
            return choices[-1]

        monkeypatch.setattr(ports, "choose", choose)
        kafka = Kafka(tmp_path / "kafka", port=0, die_with_parent=True)
        kafka.start()
        try:
            assert len(choices) == 2 and kafka.bootstrap == f"127.0.0.1:{choices[1]}"
        finally:
            kafka.kill()


def test_three_nodes_keep_three_copies_and_survive_the_loss_of_one(tmp_path: Path) -> None:
    kafka = Kafka(tmp_path / "kafka", nodes=3, port=0, die_with_parent=True)
    kafka.start()
    try:
        quiet = {"bootstrap.servers": kafka.bootstrap, "log_level": 0}
        admin = AdminClient(quiet)
        admin.create_topics([NewTopic("three", 3)])["three"].result(60)
        for name in ("three", "__consumer_offsets", "__transaction_state"):
            until(lambda name=name: copies(admin, name) == {3})  # type: ignore[misc]
        until(lambda: in_sync_needed(admin, "three") == "2")

        producer = Producer({**quiet, "transactional.id": "three"})
        producer.init_transactions(60)
        kafka.nodes[1].kill()
        assert "SIGKILL" in kafka.nodes[1].cause_of_death()
        producer.begin_transaction()
        for partition in range(3):
            producer.produce("three", b"with two of three", partition=partition)
        producer.commit_transaction(60)
        assert read_one(kafka.bootstrap, "three") == b"with two of three"

        kafka.nodes[1].start()
        kafka.wait_until_ready()
        kafka.nodes[2].pause()
        with pytest.raises(wire.NodeNotReady):
            wire.describe_cluster("127.0.0.1", kafka.nodes[2].port, timeout_s=0.2)
        kafka.nodes[2].resume()
        kafka.wait_until_ready()
    finally:
        kafka.kill()


def copies(admin: AdminClient, topic: str) -> set[int]:
    """How many copies the topic's partitions have; empty while the node that was asked does not know it yet."""
    found = admin.list_topics(timeout=60).topics.get(topic)
    return {len(partition.replicas) for partition in found.partitions.values()} if found else set()


def in_sync_needed(admin: AdminClient, topic: str) -> str | None:
    """The topic's `min.insync.replicas`; None while the node that was asked does not know the topic yet."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    with contextlib.suppress(KafkaException):
        return str(admin.describe_configs([resource])[resource].result(60)["min.insync.replicas"].value)
    return None
