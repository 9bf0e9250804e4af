"""Topics of dead letters that somebody else has made, and inputs that got partitions: no false diagnosis, no loss."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from streamapp.eos.partitioner import partition_of
from streamapp.errors import ConfigurationError
from streamapp.testing import Bench
from streamapp.testing.log import PartitionLog
from streamapp.types import Partition
from streamapp.web import figures, health

APP = """
    import msgspec
    from streamapp import App

    app = App("sides")

    class Order(msgspec.Struct):
        number: int

    @app.agent(app.topic("in", value_type=bytes))
    async def work(stream):
        async for value in stream:
            raise ValueError("never")

    @app.agent(app.topic("typed", value_type=Order))
    async def typed(stream):
        async for value in stream:
            pass
"""
Start = Callable[[], Bench]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    (tmp_path / "sides_app.py").write_text(dedent(APP))
    monkeypatch.syspath_prepend(tmp_path)
    benches = []

    def begin() -> Bench:
        bench = Bench("sides_app", partitions=4)
        benches.append(bench)
        return bench

    yield begin
    for bench in benches:
        bench.close(quietly=True)


@pytest.mark.parametrize("letters", [1, 3, 9])
def test_letters_fit_a_topic_of_another_count(start: Start, letters: int) -> None:
    bench = start()
    bench.broker.create_topic("in", 4)
    bench.broker.create_topic("in-dlt", letters)
    for number in range(4):
        bench.feed("in", b"1", key="k", partition=number)
    found = bench.dead_letters("in")
    assert sorted(dict(letter.headers)["dlt-original-partition"] for letter in bench.records("in-dlt")) in (
        ["0", "1", "2", "3"],
        [b"0", b"1", b"2", b"3"],
    )
    assert len(found) == 4
    counts = [bench.broker.logs[Partition("in-dlt", number)].high_watermark for number in range(letters)]
    assert all((count > 0) == (number in {n % letters for n in range(4)}) for number, count in enumerate(counts))


def test_a_letter_is_shortened_to_what_its_topic_takes(start: Start) -> None:
    bench = start()
    bench.broker.create_topic("in-dlt", 4, max_message_bytes=20_000)
    bench.feed("in", b"v" * 50_000, key="k")
    (letter,) = bench.records("in-dlt")
    assert letter.value is None
    assert int(dict(letter.headers)["dlt-value-bytes"]) == 50_000


@pytest.mark.parametrize(
    ("options", "said"),
    [({"compacted": True}, "cleanup.policy=delete"), ({"max_message_bytes": 500}, "max.message.bytes=")],
)
def test_a_topic_that_cannot_take_letters_is_refused_at_start(start: Start, options: dict[str, int], said: str) -> None:
    bench = start()
    bench.broker.create_topic("in-dlt", 4, **options)
    bench.broker.create_topic("typed-dlt", 4, **options)
    with pytest.raises(ConfigurationError, match=said) as refused:
        bench.settle()
    assert len(refused.value.problems) == 2


def test_an_input_that_got_partitions_is_refused_by_its_positions(start: Start) -> None:
    bench = start()
    bench.feed("typed", b'{"number": 1}', key="k")
    bench.settle()
    topic = bench.broker.topics["typed"] = bench.broker.topics["typed"]._replace(partition_count=6)
    for number in (4, 5):
        partition = Partition("typed", number)
        bench.broker.logs[partition] = PartitionLog(partition, topic)
    with pytest.raises(ConfigurationError, match="typed has 6 partitions, and had 4"):
        bench.restart()


def test_dead_letters_get_few_lines_and_are_shown(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    bench = start()
    caplog.set_level(logging.WARNING)
    wrong = (partition_of(b"k", 4) + 1) % 4
    bench.feed("typed", *[b'{"number": 1}'] * 120, key="k", partition=wrong)
    bench.feed("in", *[b"1"] * 120, key="k")
    bench.settle()
    lines = [record.getMessage() for record in caplog.records if "is a dead letter" in record.getMessage()]
    assert [line.split("number ")[1].split()[0] for line in lines] == ["1", "10", "100"]
    assert all("partitioner=murmur2_random" in line for line in lines)
    assert sum(record.exc_info is not None for record in caplog.records) == 3
    lines = ["dead letters of in: 120 builtins.ValueError", "dead letters of typed: 120 WrongPartition", ""]
    assert health.letters(bench.app).split("\n") == lines
    family = next(it for it in figures.families(bench.app) if it.name == "streamapp_dead_letters_by_kind_total")
    assert [sample.value for sample in family.samples] == [120, 120]
