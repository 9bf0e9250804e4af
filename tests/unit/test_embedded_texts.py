"""What a broker is told, what it answers, and what is said of one that ended: pure texts and bytes."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from streamapp.embedded import comeback, wire
from streamapp.embedded import exit_reason as death
from streamapp.embedded.exit_reason import PortTaken
from streamapp.embedded.kafka import Kafka
from streamapp.embedded.properties import (
    Place,
    controller_properties,
    jvm_flags,
    logging_configuration,
    overrides,
    server_properties,
)
from streamapp.errors import StoreError, Unavailable

PLACES = [Place(1, 9092, 40001), Place(2, 9093, 40002), Place(3, 9094, 40003)]


def settings(place: Place, places: list[Place]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in server_properties(place, places, Path("/d a/ta")).splitlines())


@pytest.mark.parametrize(("places", "factor", "in_sync"), [(PLACES[:1], "1", "1"), (PLACES, "3", "2")])
def test_copies_of_every_topic_the_internal_ones_too(places: list[Place], factor: str, in_sync: str) -> None:
    for place in places:
        told = settings(place, places)
        for name in ("default", "offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            assert told[f"{name}.replication.factor"] == factor
        for name in ("min.insync.replicas", "transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr"):
            assert told[name] == in_sync
        assert told["node.id"] == str(place.node)


def test_what_exactly_once_and_tests_need() -> None:
    told = settings(PLACES[1], PLACES)
    sweep = "transaction.abort.timed.out.transaction.cleanup.interval.ms"
    assert told[sweep] == "1000"
    assert overrides(comes_back=False) == []
    assert overrides(comes_back=True) == ["--override", f"{sweep}=10000"]
    assert told["auto.create.topics.enable"] == "false"
    assert told["group.initial.rebalance.delay.ms"] == "0"
    assert told["controller.quorum.voters"] == "1@127.0.0.1:40001,2@127.0.0.1:40002,3@127.0.0.1:40003"
    assert told["log.dirs"] == "/d a/ta"
    for listener in (told["listeners"] + "," + told["advertised.listeners"]).split(","):
        assert listener.split("://")[1].startswith("127.0.0.1:")


def test_no_pause_ends_the_session_of_a_single_node() -> None:
    """Of three it does: another one has the partitions then."""
    assert int(settings(PLACES[0], PLACES[:1])["broker.session.timeout.ms"]) > 20 * 86_400_000
    assert settings(PLACES[0], PLACES)["broker.session.timeout.ms"] == "6000"


def test_a_controller_alone_listens_to_no_client_and_is_the_same_node() -> None:
    alone = dict(line.split("=", 1) for line in controller_properties(PLACES[0], Path("/d a/ta")).splitlines())
    whole = settings(PLACES[0], PLACES[:1])
    assert alone["process.roles"] == "controller" and alone["listeners"] == "CONTROLLER://127.0.0.1:40001"
    assert "advertised.listeners" not in alone
    for name in ("node.id", "controller.quorum.voters", "controller.listener.names", "log.dirs"):
        assert alone[name] == whole[name]


@pytest.mark.parametrize(
    ("has_run", "ended_well_at", "started_at", "killed"),
    [
        (False, None, None, False),
        (True, None, 5, True),
        (True, 9, 5, False),
        (True, 5, 9, True),  # before it took the sign away that the one before it had left
        (True, 9, None, False),  # of a version that left no such file
        (True, None, None, True),
    ],
)
def test_who_was_killed(
    tmp_path: Path, has_run: bool, ended_well_at: int | None, started_at: int | None, killed: bool
) -> None:
    if has_run:
        (tmp_path / "__cluster_metadata-0").mkdir()
    for name, at in ((".kafka_cleanshutdown", ended_well_at), ("started", started_at)):
        if at is not None:
            (tmp_path / name).touch()
            os.utime(tmp_path / name, (at, at))
    assert comeback.was_killed(tmp_path, tmp_path / "started") is killed


def test_logging_takes_any_path() -> None:
    tree = ElementTree.fromstring(logging_configuration(Path('/a & "b" <${c}')))  # noqa: S314
    file = tree.find(".//RollingFile")
    assert file is not None and file.get("fileName") == '/a & "b" <$${c}'


def test_heap() -> None:
    assert "-Xmx300m" in jvm_flags(21, 300, Path("l"), Path("t"))


@pytest.mark.parametrize(
    ("long_lived", "there", "absent"),
    [
        (False, {"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}, {"-XX:+UseG1GC"}),
        (True, {"-XX:+UseG1GC"}, {"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}),
    ],
)
def test_a_node_that_lives_long_has_the_collector_and_the_compilers_of_kafkas_own_script(
    long_lived: bool, there: set[str], absent: set[str], tmp_path: Path
) -> None:
    (node,) = Kafka(tmp_path, heap_mib=1024, long_lived=long_lived).nodes
    flags = set(map(str, node._java(1024)))
    assert there <= flags and not absent & flags and "-Xmx1024m" in flags


def test_flags_that_an_earlier_java_does_not_know() -> None:
    new = set(jvm_flags(24, 300, Path("l"), Path("t"))) - set(jvm_flags(21, 300, Path("l"), Path("t")))
    assert new == {"--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"}


@pytest.mark.parametrize(
    ("code", "log", "said"),
    [
        (1, ["x", "java.io.IOException: No space left on device", "y"], "the disk is full"),
        (3, ["Terminating due to java.lang.OutOfMemoryError: Java heap space"], "heap is full"),
        (1, ["java.net.BindException: Address already in use"], "its port was taken"),
        (-9, ["INFO started"], "ended by SIGKILL"),
        (None, ["INFO started"], "kill -9"),
        (143, ["INFO AppInfoParser: App info kafka.server for 1 unregistered"], "asked to end"),
        (5, [], "exit code 5"),
    ],
)
def test_cause_of_death(code: int | None, log: list[str], said: str) -> None:
    assert said in death.cause(code, log)


def test_failures_by_remedy() -> None:
    assert isinstance(death.failure("x", ["No space left on device"]), StoreError)
    assert isinstance(death.failure("x", ["Address already in use", *["closing"] * 90]), PortTaken)
    other = death.failure("It ended.", ["a", "b"])
    assert type(other) is Unavailable and str(other).splitlines() == ["It ended.", "Its log ends:", "  | a", "  | b"]


def answer(error: int, cluster_id: bytes, brokers: list[tuple[int, bytes, int]]) -> bytes:
    body = struct.pack(">ih", 0, error) + b"\x00" + bytes([len(cluster_id) + 1]) + cluster_id
    body += struct.pack(">i", 1) + bytes([len(brokers) + 1])
    for node, host, port in brokers:
        body += struct.pack(">i", node) + bytes([len(host) + 1]) + host + struct.pack(">i", port)
        body += b"\x00" + b"\x01\x07\x02ab"  # no rack; one tagged field, to be passed over
    return body + struct.pack(">i", -1) + b"\x00"


def test_describe_cluster_is_read() -> None:
    cluster = wire.decode_cluster(answer(0, b"id", [(1, b"127.0.0.1", 9092), (3, b"h", 70_000)]))
    assert cluster == ("id", {1: ("127.0.0.1", 9092), 3: ("h", 70_000)})


def test_an_error_or_a_cut_answer_is_not_ready() -> None:
    with pytest.raises(wire.NodeNotReady, match="error 8"):
        wire.decode_cluster(answer(8, b"id", []))
    whole = answer(0, b"id", [(1, b"127.0.0.1", 9092)])
    for size in range(len(whole) - 5):
        with pytest.raises(wire.NodeNotReady):
            wire.decode_cluster(whole[:size])


@contextmanager
def controller(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Who answers the requests of one connection each, in turn, and what was asked; port and requests."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
                    asked.append(connection.recv(size, socket.MSG_WAITALL))
                    whole = asked[-1][4:8] + b"\x00" + answer  # correlation id, no tagged fields
                    connection.sendall(struct.pack(">i", len(whole)) + whole)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], asked
        thread.join(20)


def unregistered(error: int, message: bytes = b"") -> bytes:
    text = bytes([len(message) + 1]) + message if message else b"\x00"
    return struct.pack(">ih", 0, error) + text + b"\x00"


def test_a_broker_is_forgotten_or_was_not_known() -> None:
    with controller(unregistered(0), unregistered(102), unregistered(41, b"not yet"), unregistered(31)) as (
        port,
        asked,
    ):
        wire.unregister("127.0.0.1", port, 7)
        wire.unregister("127.0.0.1", port, 7)
        with pytest.raises(wire.NodeNotReady, match="not yet"):
            wire.unregister("127.0.0.1", port, 7)
        with pytest.raises(wire.NodeNotReady, match="error 31"):
            wire.unregister("127.0.0.1", port, 7)
    assert [request[:4] for request in asked] == [struct.pack(">hh", 64, 0)] * 4
    assert all(request.endswith(struct.pack(">i", 7) + b"\x00") for request in asked)


def running(code: str) -> Callable[[], subprocess.Popen[bytes]]:
    return lambda: subprocess.Popen([sys.executable, "-c", code])


def test_a_controller_alone_is_asked_until_it_has_forgotten_the_broker_and_then_ended() -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(running("import time; time.sleep(60)")())
        return started[0]

    with controller(unregistered(41, b"no leader yet"), unregistered(0)) as (port, asked):
        comeback.forget_broker(Place(1, 0, port), start, list, 30)
    assert len(asked) == 2
    assert started[0].returncode is not None


def test_a_controller_that_ends_or_takes_too_long_is_an_error_with_its_last_words() -> None:
    with pytest.raises(StoreError, match="controller 1 ended: the disk is full"):
        comeback.forget_broker(Place(1, 0, 1), running(""), lambda: ["No space left on device"], 30)
    with controller(unregistered(41, b"no leader yet")) as (port, _), pytest.raises(Unavailable, match="no leader yet"):
        comeback.forget_broker(Place(1, 0, port), running("import time; time.sleep(60)"), lambda: ["words"], 0)
