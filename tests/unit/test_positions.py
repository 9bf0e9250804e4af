"""Where a worker goes on from, for every way in which a position can be odd; at its start and while it runs."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.eos.positions import (
    NUMBER,
    FoundPosition,
    Position,
    PositionLost,
    TopicReplaced,
    key_of,
    read_position,
    start_of,
    value_of,
)
from streamapp.errors import ConfigurationError, StreamAppError
from streamapp.ops.positions import Choice, accept, show
from streamapp.settings import Settings
from streamapp.state import MemoryState
from streamapp.testing import Bench
from streamapp.testing.environment import MemoryEnvironment
from streamapp.types import Partition

APP = """
    import os
    from streamapp import App

    app = App("shop")
    out = app.topic("out")
    {table}

    @app.agent(app.topic("in", value_type=int))
    async def count(stream):
        async for event in stream.events():
            {count}
            await out.send(key=event.key, value=event.value)
"""
INPUT = Partition("in", 0)
POSITIONS = "shop-positions"


def app_text(*, table: bool) -> str:
    text = dedent(APP)
    return (
        text.format(table='counts = app.Table("counts", default=int)', count='counts["all"] += 1')
        if table
        else (text.format(table="", count="pass"))
    )


@pytest.fixture(params=["table", "no table"])
def bench(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A worker that has processed five events; with a table, and without one."""
    (tmp_path / "shop_app.py").write_text(app_text(table=request.param == "table"))
    monkeypatch.syspath_prepend(tmp_path)
    with Bench("shop_app", partitions=1) as bench:
        bench.feed("in", 1, 2, 3, 4, 5, key="k")
        bench.settle()
        bench.stop()
        yield bench


def processed(bench: Bench) -> list[int]:
    return [record.value for record in bench.records("out")]


def position(bench: Bench) -> Position:
    """What was written last."""
    log = bench.broker.logs[Partition(POSITIONS, NUMBER)]
    records = log.fetch(0, committed_only=True).records
    known = dict(read_position(record.key, record.value) for record in records)
    found = known[INPUT]
    assert found is not None
    return found


def committed(bench: Bench) -> int | None:
    return bench.broker.group("shop").offsets.committed.get(INPUT)


def in_loop(bench: Bench, change: Callable[[], object]) -> None:
    """What an administrator or another program does to the broker."""

    async def carry_out() -> None:
        change()

    bench._run(carry_out())


def send(bench: Bench, partition: Partition, *values: bytes) -> None:
    """Append records, whether a worker runs or not."""
    in_loop(bench, lambda: [bench.broker.send(partition, b"k", value) for value in values])


def elect(bench: Bench, truncate_to: int | None = None, *values: bytes) -> None:
    """Another leader takes the input over, and these records come, before anybody reads on."""

    in_loop(bench, lambda: bench.broker.elect(INPUT, truncate_to, *values))


def decide(bench: Bench, choice: Choice, *, execute: bool = True) -> None:
    """What `streamapp positions accept` does."""
    settings = Settings(id="shop")
    environment = MemoryEnvironment(bench.broker, settings, MemoryState())

    async def once_the_seat_is_free() -> None:
        await asyncio.sleep(30)  # virtual: longer than the session of a worker with an instance
        await accept(environment, settings, INPUT, choice, execute=execute)

    bench._run(once_the_seat_is_free())


def refused(bench: Bench, *words: str) -> str:
    """The worker does not start, for these words, and says the same thing again when it is started again."""
    with pytest.raises(ConfigurationError) as caught:
        bench.settle()
    for word in words:
        assert word in str(caught.value)
    with pytest.raises(ConfigurationError):
        bench.settle()
    return str(caught.value)


# --- what is written


def test_a_commit_writes_the_position_of_every_input_that_moved(bench: Bench) -> None:
    assert position(bench) == Position(bench.broker.topics["in"].topic_id, 5, 0, 1)
    assert committed(bench) == 5
    log = bench.broker.logs[Partition(POSITIONS, NUMBER)]
    before = log.high_watermark
    bench.advance(30)
    assert log.high_watermark == before, "a position that stands is not written again"


def test_a_position_is_json_with_a_version(bench: Bench) -> None:
    (record,) = bench.broker.logs[Partition(POSITIONS, NUMBER)].fetch(0, committed_only=True).records[-1:]
    assert json.loads(record.key or b"") == ["in", 0]
    topic_id = bench.broker.topics["in"].topic_id
    assert json.loads(record.value or b"") == {
        "version": 1,
        "topic_id": topic_id,
        "offset": 5,
        "leader_epoch": 0,
        "partitions": 1,
    }


@given(st.text(min_size=1), st.integers(0, 2**31 - 1), st.text(), st.integers(0, 2**63 - 1), st.integers(-1, 2**31 - 1))
def test_what_was_written_is_read_again(topic: str, number: int, topic_id: str, offset: int, epoch: int) -> None:
    partition, written = Partition(topic, number), Position(topic_id, offset, epoch)
    assert read_position(key_of(partition), value_of(written)) == (partition, written)
    assert read_position(key_of(partition), None) == (partition, None)


@given(st.one_of(st.none(), st.binary(max_size=40)), st.binary(max_size=60))
def test_what_a_stranger_wrote_is_refused_and_not_passed_over(key: bytes | None, value: bytes) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_position(key, value)


# --- the group's offset is not usable


def test_an_offset_that_expired_or_was_deleted_is_not_begun_at_the_earliest(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.broker.delete_offsets("shop")
    bench.feed("in", 6, key="k")
    assert processed(bench) == [1, 2, 3, 4, 5, 6]
    assert "no committed offset; it goes on from its position 5" in caplog.text


def test_a_group_offset_behind_the_position_is_refused_and_either_can_be_accepted(bench: Bench) -> None:
    bench.broker.reset_offset("shop", INPUT, 2)
    text = refused(bench, "the offset of group shop is 2", "the position is 5")
    assert "STREAMAPP_ID=shop streamapp positions accept in:0 --position --execute" in text
    decide(bench, Choice.POSITION, execute=False)
    assert committed(bench) == 2, "nothing is changed without --execute"
    decide(bench, Choice.POSITION)
    bench.feed("in", 6, key="k")
    assert processed(bench) == [1, 2, 3, 4, 5, 6]


def test_the_records_between_are_processed_again_if_a_person_says_so(bench: Bench) -> None:
    bench.broker.reset_offset("shop", INPUT, 2)
    refused(bench, "--group-offset")
    decide(bench, Choice.GROUP_OFFSET)
    assert processed(bench) == [1, 2, 3, 4, 5, 3, 4, 5]


def test_a_group_offset_ahead_is_taken_with_a_line(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    send(bench, INPUT, b"6")
    bench.broker.reset_offset("shop", INPUT, 6)
    bench.feed("in", 7, key="k")
    assert processed(bench) == [1, 2, 3, 4, 5, 7]
    assert "is 6, ahead of the position 5" in caplog.text


# --- the log is another one than it was


def test_a_topic_that_was_created_anew_is_read_from_its_start(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    topic = bench.broker.topics["in"]
    bench.broker.delete_topic("in")
    bench.broker.create_topic("in", 1, append_time=True)
    assert bench.broker.topics["in"].topic_id != topic.topic_id
    bench.feed("in", 6, 7, key="k")
    assert processed(bench) == [1, 2, 3, 4, 5, 6, 7]
    assert "another topic of this name" in caplog.text
    assert position(bench) == Position(bench.broker.topics["in"].topic_id, 2, 0, 1)


@pytest.mark.parametrize("offsets", ["kept", "deleted"])
def test_a_log_that_begins_behind_the_position_is_refused(bench: Bench, offsets: str) -> None:
    send(bench, INPUT, b"6", b"7", b"8")
    in_loop(bench, lambda: bench.broker.delete_records(INPUT, 7))
    if offsets == "deleted":
        bench.broker.delete_offsets("shop")
    refused(bench, "5 is gone, the topic now begins at 7", "--earliest")
    decide(bench, Choice.EARLIEST)
    assert processed(bench) == [1, 2, 3, 4, 5, 8]


@pytest.mark.parametrize("choice", [Choice.EARLIEST, Choice.LATEST])
def test_a_position_beyond_the_end_is_refused(bench: Bench, choice: Choice) -> None:
    elect(bench, 3)
    refused(bench, "5 is beyond the end 3", "--latest", "--earliest")
    with pytest.raises(ConfigurationError, match="Nothing was changed"):
        decide(bench, Choice.POSITION)
    decide(bench, choice)
    bench.feed("in", 6, key="k")
    assert processed(bench) == [1, 2, 3, 4, 5, *([1, 2, 3] if choice is Choice.EARLIEST else []), 6]


@pytest.mark.parametrize("choice", [Choice.EARLIEST, Choice.LATEST, Choice.POSITION])
def test_a_log_that_was_truncated_and_filled_again_is_refused(bench: Bench, choice: Choice) -> None:
    elect(bench, 3, b"10", b"11", b"12")
    refused(bench, "leader epoch 0, which now ends at 3", "--latest", "--position", "--earliest")
    decide(bench, choice)
    bench.feed("in", 13, key="k")
    again = {Choice.EARLIEST: [1, 2, 3, 10, 11, 12], Choice.LATEST: [], Choice.POSITION: [12]}
    assert processed(bench) == [1, 2, 3, 4, 5, *again[choice], 13]


def test_a_leader_that_has_everything_is_none_of_our_business(bench: Bench) -> None:
    elect(bench)
    bench.feed("in", 6, key="k")
    assert processed(bench) == [1, 2, 3, 4, 5, 6]
    assert position(bench).leader_epoch == 1


# --- state and neither


def test_state_and_neither_position_nor_offset_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _upgraded(tmp_path, monkeypatch) as bench:
        bench.broker.delete_offsets("shop")
        refused(bench, "there is no position, and the tables contain work", "--earliest", "--latest")
        decide(bench, Choice.LATEST)
        bench.feed("in", 6, key="k")
        assert processed(bench) == [1, 2, 3, 4, 5, 6]
        assert bench.table("counts") == {"all": 6}


def test_an_upgraded_app_goes_on_from_the_group_s_offsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _upgraded(tmp_path, monkeypatch) as bench:
        bench.feed("in", 6, key="k")
        assert processed(bench) == [1, 2, 3, 4, 5, 6]
        assert position(bench).offset == 6


def test_an_upgraded_app_begins_an_input_that_never_had_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _upgraded(tmp_path, monkeypatch) as bench:
        bench.broker.delete_topic("in")
        bench.broker.create_topic("in", 1, append_time=True)
        bench.feed("in", 6, key="k")
        assert processed(bench) == [1, 2, 3, 4, 5, 6]


def _upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An app whose state is of a version that wrote no positions."""
    (tmp_path / "shop_app.py").write_text(app_text(table=True))
    monkeypatch.syspath_prepend(tmp_path)
    bench = Bench("shop_app", partitions=1)
    bench.feed("in", 1, 2, 3, 4, 5, key="k")
    bench.settle()
    bench.stop()
    bench.broker.delete_topic(POSITIONS)
    return bench


def test_a_new_input_of_an_app_with_state_is_read_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "shop_app.py"
    path.write_text(app_text(table=True))
    monkeypatch.syspath_prepend(tmp_path)
    with Bench("shop_app", partitions=1) as bench:
        bench.feed("in", 1, key="k")
        bench.settle()
        bench.stop()
        path.write_text(
            app_text(table=True)
            + dedent("""
                @app.agent(app.topic("more", value_type=int))
                async def more(stream):
                    async for value in stream:
                        await out.send(key="k", value=value)
            """)
        )
        bench.broker.create_topic("more", 1, append_time=True)
        send(bench, Partition("more", 0), b"7")
        assert processed(bench) == [1, 7]
    assert "more[0]: a new input of group shop" in caplog.text


def test_a_first_transaction_that_was_aborted_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_app.py").write_text(app_text(table=True))
    monkeypatch.syspath_prepend(tmp_path)
    with Bench("shop_app", partitions=1) as bench:
        bench.crash_at("commit.before_end")
        bench.feed("in", 1, key="k")
        assert processed(bench) == [1]
        assert bench.starts == 2


# --- at least once


def test_at_least_once_writes_a_position_one_commit_late_and_says_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shop_app.py").write_text(app_text(table=True))
    monkeypatch.syspath_prepend(tmp_path)
    with Bench("shop_app", partitions=1, processing_guarantee="at_least_once") as bench:
        for value in range(1, 4):
            bench.feed("in", value, key="k")
            bench.settle()
        assert (committed(bench), position(bench).offset) == (3, 2)
        bench.restart()
        assert "ahead of the position" not in caplog.text
        bench.stop()
        bench.broker.delete_offsets("shop")
        bench.feed("in", 4, key="k")
        bench.advance(1)
        assert processed(bench) == [1, 2, 3, 3, 4], "what is in doubt is repeated, and nothing is left out"


# --- the topic of positions itself


def test_a_topic_of_positions_that_is_deleted_by_age_is_refused(bench: Bench) -> None:
    bench.broker.delete_topic(POSITIONS)
    bench.broker.create_topic(POSITIONS, 1)
    refused(bench, "shop-positions is not compacted", "cleanup.policy=compact")


def test_a_stranger_s_record_among_the_positions_is_refused(bench: Bench) -> None:
    send(bench, Partition(POSITIONS, NUMBER), b"hello")
    refused(bench, "cannot be read", "Nothing is processed")


# --- while it runs


def sent(bench: Bench, *values: bytes) -> None:
    for value in values:
        bench.broker.send(INPUT, b"k", value)


def test_records_that_are_deleted_before_they_are_read_end_the_worker(bench: Bench) -> None:
    bench.settle()
    in_loop(bench, lambda: (sent(bench, b"6", b"7", b"8"), bench.broker.delete_records(INPUT, 7)))
    with pytest.raises(PositionLost, match="at offset 5, is not in the log any more"):
        bench.advance(5)
    refused(bench, "is gone, the topic now begins at 7")
    assert position(bench).offset == 5


def test_a_log_that_is_truncated_while_it_runs_ends_the_worker(bench: Bench) -> None:
    bench.settle()
    elect(bench, 3)
    with pytest.raises(PositionLost):
        bench.advance(5)
    refused(bench, "is beyond the end 3")


def test_a_log_that_is_truncated_and_filled_again_while_it_runs_ends_the_worker(bench: Bench) -> None:
    bench.feed("in", 6, key="k")
    bench.settle()
    elect(bench, 3, b"10", b"11", b"12", b"13")
    with pytest.raises(PositionLost):
        bench.advance(5)
    refused(bench, "leader epoch 0, which now ends at 3")
    outputs = bench.broker.logs[Partition("out", 0)].fetch(0, committed_only=True).records
    assert b"13" not in [record.value for record in outputs]


def test_an_election_without_a_loss_is_none_of_our_business_while_it_runs(bench: Bench) -> None:
    bench.feed("in", 6, key="k")
    bench.settle()
    elect(bench, None, b"7")
    assert processed(bench) == [1, 2, 3, 4, 5, 6, 7]


def test_a_topic_that_is_created_anew_while_it_runs_ends_the_worker_and_is_read_from_its_start(bench: Bench) -> None:
    bench.settle()

    def replace() -> None:
        bench.broker.delete_topic("in")
        bench.broker.create_topic("in", 1, append_time=True)
        sent(bench, b"10", b"11", b"12", b"13", b"14")

    in_loop(bench, replace)
    with pytest.raises(TopicReplaced, match="was deleted and created anew"):
        bench.advance(5)
    assert processed(bench) == [1, 2, 3, 4, 5, 10, 11, 12, 13, 14]


# --- the command


def test_nothing_is_accepted_while_the_group_is_active(bench: Bench) -> None:
    bench.settle()
    settings = Settings(id="shop")
    environment = MemoryEnvironment(bench.broker, settings, MemoryState())
    with pytest.raises(StreamAppError, match="has 1 members"):
        bench._run(accept(environment, settings, INPUT, Choice.EARLIEST, execute=True))


def test_show_says_what_a_worker_would_refuse(bench: Bench) -> None:
    settings = Settings(id="shop")
    environment = MemoryEnvironment(bench.broker, settings, MemoryState())
    (row,) = bench._run(show(environment, settings))
    assert (row.partition, row.position, row.committed, row.earliest, row.end, row.problem) == (INPUT, 5, 5, 0, 5, None)
    bench.broker.reset_offset("shop", INPUT, 2)
    (row,) = bench._run(show(environment, settings))
    assert row.problem is not None and "would count twice" in row.problem


# --- the rules, of all that can be found

OFFSET = st.integers(0, 6)


@given(
    st.one_of(st.none(), OFFSET),
    st.one_of(st.none(), st.builds(Position, st.sampled_from(["old", "now"]), OFFSET, st.integers(-1, 3))),
    OFFSET,
    OFFSET,
    st.one_of(st.none(), OFFSET),
    st.booleans(),
    st.booleans(),
)
def test_a_worker_never_skips_and_never_repeats_in_silence(
    group: int | None,
    known: Position | None,
    one: int,
    other: int,
    epoch_end: int | None,
    has_state: bool,
    is_new: bool,
) -> None:
    earliest, end = sorted((one, other))
    found = FoundPosition(INPUT, "now", group, known, earliest, end, epoch_end, has_state, is_new)
    try:
        start = start_of(found, "shop")
    except ConfigurationError as exc:
        assert "STREAMAPP_ID=shop streamapp positions accept in:0 --" in str(exc)
        return
    assert earliest <= start.offset <= end
    if known is not None and known.topic_id == "now":
        assert start.offset >= known.offset, "nothing is processed again"
        assert start.offset == known.offset or start.line is not None, "nothing is passed over in silence"
    elif known is not None:
        assert start.offset == earliest and start.line is not None
    elif group is not None:
        assert start.offset == group
    else:
        assert start.offset == earliest and (not has_state or earliest == end or (is_new and start.line is not None))


@pytest.fixture(autouse=True)
def _lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
