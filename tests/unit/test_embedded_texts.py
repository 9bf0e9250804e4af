"""What a broker is told, what it answers, and what is said of one that ended: pure texts and bytes."""

from __future__ import annotations

import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest

from streamapp.embedded import death, wire
from streamapp.embedded.death import PortTaken
from streamapp.embedded.kafka import Kafka
from streamapp.embedded.properties import Place, jvm_flags, logging_configuration, overrides, server_properties
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
    with pytest.raises(wire.NotReady, match="error 8"):
        wire.decode_cluster(answer(8, b"id", []))
    whole = answer(0, b"id", [(1, b"127.0.0.1", 9092)])
    for size in range(len(whole) - 5):
        with pytest.raises(wire.NotReady):
            wire.decode_cluster(whole[:size])
