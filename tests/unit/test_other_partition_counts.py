"""Inputs with another number of partitions than PARTITIONS: what the worker makes fits them, or it does not start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from streamapp.errors import ConfigurationError
from streamapp.testing import Bench

APP = """
    from streamapp import App

    from functools import partial

    app = App("counts")
    seen = app.Table("seen", default=int){limited}
    out = app.topic("out")

    @app.agent(app.topic("one", value_type=bytes))
    async def first(stream):
        async for key, value in stream.items():
            seen[key] += 1
            await out.send(key=key, value=value)

    @app.agent(app.topic("two", value_type=bytes))
    async def second(stream):
        async for key, value in stream.items():
            {body}
"""
Start = Callable[..., Bench]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    benches = []

    def begin(topics: dict[str, int], body: str = "pass", limited: str = "") -> Bench:
        (tmp_path / "counts_app.py").write_text(dedent(APP).replace("{body}", body).replace("{limited}", limited))
        monkeypatch.syspath_prepend(tmp_path)
        bench = Bench("counts_app", partitions=4)
        benches.append(bench)
        for name, count in topics.items():
            bench.broker.create_topic(name, count)
        return bench

    yield begin
    for bench in benches:
        bench.close(quietly=True)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_what_is_created_has_the_count_of_the_inputs(start: Start, count: int) -> None:
    bench = start({"one": count}, limited='.upsert_to(app.topic("rows"), emit_every=1)')
    for number in range(20):
        bench.feed("one", b"1", key=f"k{number}")
    bench.settle()
    counts = {name: topic.partition_count for name, topic in bench.broker.topics.items()}
    assert counts.pop("counts-positions") == 1
    assert set(counts.values()) == {count}
    assert len(bench.table("seen")) == 20


def test_a_table_takes_the_count_of_the_topic_whose_agent_names_it(start: Start) -> None:
    bench = start({"one": 6, "two": 3})
    bench.feed("one", b"1", key="k")
    bench.feed("two", b"1", key="k")
    assert bench.table("seen") == {b"k": 1}
    assert bench.broker.topics["counts-seen-changelog"].partition_count == 6
    assert bench.broker.topics["two-dlt"].partition_count == 3


def test_a_changelog_of_another_count_is_refused_with_what_to_do(start: Start) -> None:
    bench = start({"one": 6, "two": 6, "counts-seen-changelog": 4})
    with pytest.raises(ConfigurationError, match="--delete --topic counts-seen-changelog") as refused:
        bench.settle()
    assert "has 4 partitions, and one has 6" in str(refused.value)
    assert "all its rows" in str(refused.value)


def test_one_table_of_topics_with_different_counts_is_refused(start: Start) -> None:
    bench = start({"one": 6, "two": 3}, body="seen[key] += 1")
    with pytest.raises(ConfigurationError, match="one has 6, two has 3"):
        bench.settle()


def test_an_agent_that_is_no_plain_function_starts_too(start: Start) -> None:
    bench = start({"two": 3})
    code = Path(str(bench.module.__file__))
    code.write_text(
        code.read_text()
        + dedent("""
    async def third(stream, table):
        async for key, value in stream.items():
            table[key] += 1

    app.agent(app.topic("two", value_type=bytes), name="third")(partial(third, table=seen))
    """)
    )
    bench.restart()
    assert bench.broker.topics["two"].partition_count == 3
