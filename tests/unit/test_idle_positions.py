"""A partition that ends in aborted records and control records shows no lag, and costs no commit once it is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from streamapp.eos.producer import Producer
from streamapp.testing import Bench
from streamapp.testing.cluster import MemoryCluster
from streamapp.types import Partition

APP = """
    from streamapp import App

    app = App("idle")
    out = app.topic("out")

    @app.agent(app.topic("in", value_type=bytes))
    async def copy(stream):
        async for value in stream:
            await out.send(key=b"k", value=value)
"""
INPUT = Partition("in", 0)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "idle_app.py").write_text(dedent(APP))
    monkeypatch.syspath_prepend(tmp_path)
    with Bench("idle_app", partitions=1) as bench:
        bench.feed("in", b"1", key="k")
        bench.settle()
        yield bench


async def _abort(bench: Bench, count: int) -> None:
    """What a transactional sender leaves behind that gives up."""
    producer = Producer(MemoryCluster(bench.broker), "sender", transaction_timeout_s=10)
    await producer.start()
    await producer.ensure("in")
    for _ in range(count):
        producer.append("in", 0, b"k", b"aborted")
        await producer.produce()
        await producer.abort()


def _lag(bench: Bench) -> int:
    return bench.broker.logs[INPUT].high_watermark - bench.broker.group("idle").offsets.committed[INPUT]


def test_a_partition_that_ends_in_aborted_records_has_no_lag(bench: Bench) -> None:
    bench._run(_abort(bench, 3))
    bench.advance(3)
    assert bench.broker.logs[INPUT].high_watermark == 7  # one record; three aborted ones, each with its marker
    assert _lag(bench) == 0
    assert [record.value for record in bench.records("out")] == [1]


def test_a_position_that_stands_is_committed_once(bench: Bench) -> None:
    bench._run(_abort(bench, 1))
    bench.advance(3)
    commits = bench.count("commits")
    bench.advance(60)
    assert bench.count("commits") == commits


def test_aborted_records_that_keep_coming_cost_a_commit_a_second(bench: Bench) -> None:
    commits = bench.count("commits")
    for _ in range(50):
        bench._run(_abort(bench, 1))
        bench.advance(0.1)
    bench.advance(2)
    assert 1 <= bench.count("commits") - commits <= 8
    assert _lag(bench) == 0
