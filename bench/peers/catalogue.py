"""Every program of the bench: how it is started, what it promises, and what it does not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench import java

PEERS_PYTHON = Path(".streamapp/bench/venv/bin/python")
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """One program. `command` is called once a run of the bench, with a directory it may build in."""

    name: str
    title: str
    command: Callable[[Path], list[str]]
    state: str
    #: What a reader should know before comparing it.
    lacks: str
    exactly_once: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    #: Rounds at most: of those that are slow, or far from what they are compared with.
    rounds_max: int | None = None


def _ours(module: str) -> Callable[[Path], list[str]]:
    return lambda _: [
        sys.executable,
        "-m",
        "streamapp.cli",
        "worker",
        "--app",
        f"bench.peers.{module}",
        "-l",
        "warning",
    ]


def _loop(module: str) -> Callable[[Path], list[str]]:
    return lambda _: [sys.executable, "-m", f"bench.peers.{module}"]


def _peers_python(file: str, *arguments: str) -> Callable[[Path], list[str]]:
    return lambda _: [str(PEERS_PYTHON.absolute()), str(_HERE / file), *arguments]


def _streams(build: Path) -> list[str]:
    return [*java.compiled(build / "classes"), "-Xmx1g", "Streams"]


CATALOGUE: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            "ours",
            "streamapp, an agent",
            _ours("ours"),
            "rocksdict, changelog",
            "ids are forgotten after `INBOX_RETENTION` (7 days)",
        ),
        Peer(
            "ours-batch",
            "streamapp, an agent on batches",
            _ours("ours_batch"),
            "rocksdict, changelog",
            "as above; a batch that fails runs again one event at a time",
        ),
        Peer(
            "ours-alo",
            "streamapp, an agent, at least once",
            _ours("ours"),
            "rocksdict, changelog",
            "no transaction: a crash repeats outputs",
            exactly_once=False,
            environment={"STREAMAPP_PROCESSING_GUARANTEE": "at_least_once"},
        ),
        Peer(
            "streams",
            "Kafka Streams, 1 thread",
            _streams,
            "RocksDB, changelog",
            "ids are kept for ever; the content of a repeat is not compared; no dead letters",
            environment={"BENCH_THREADS": "1"},
        ),
        Peer(
            "streams-2",
            "Kafka Streams, 2 threads",
            _streams,
            "RocksDB, changelog",
            "as with one thread",
            environment={"BENCH_THREADS": "2"},
            rounds_max=5,
        ),
        Peer(
            "quix",
            "Quix Streams",
            _peers_python("quix.py"),
            "rocksdict, changelog",
            "transactions v1; ids are kept for ever; the content of a repeat is not compared; no dead letters",
            rounds_max=5,
        ),
        Peer(
            "librdkafka",
            "loop on librdkafka, no store",
            _loop("librdkafka_loop"),
            "dictionary, changelog",
            "the changelog is never read, so state is lost with the process; transactions v1; no rebalances",
        ),
        Peer(
            "aiokafka",
            "loop on aiokafka, no store",
            _loop("aiokafka_loop"),
            "dictionary, changelog",
            "as the loop on librdkafka; besides, a zombie's offsets are accepted (TxnOffsetCommit v0)",
            rounds_max=5,
        ),
        Peer(
            "faust-alo",
            "stock Faust, at least once",
            _peers_python("stock_faust.py", "worker", "-l", "warn", "--without-web"),
            "rocksdict, changelog",
            "no transaction: a crash repeats outputs; state and offsets may disagree",
            exactly_once=False,
            environment={"BENCH_GUARANTEE": "at_least_once"},
            rounds_max=3,
        ),
        Peer(
            "faust",
            "stock Faust, exactly_once",
            _peers_python("stock_faust.py", "worker", "-l", "warn", "--without-web"),
            "rocksdict, changelog",
            "it doubles, loses and stops after a crash ([seen](faust-defects.md))",
            environment={"BENCH_GUARANTEE": "exactly_once"},
            rounds_max=3,
        ),
    )
}
