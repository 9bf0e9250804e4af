"""Topics whose senders use another partitioner than Kafka's default: what a declaration does, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent, indent
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp import app as service
from streamapp.eos.partitioner import DEFAULT, PARTITIONERS, fnv1a, murmur2, partition_of
from streamapp.errors import ConfigurationError
from streamapp.queries import views as queries
from streamapp.queries.views import Views
from streamapp.settings import load
from streamapp.testing import Bench

COUNT = 4
KEYS = ["", "a", "ümlaut", "漢字 🙂", *(f"key-{number}" for number in range(30))]
OTHERS = sorted(PARTITIONERS.keys() - {"murmur2", "murmur2_random"})

APP = """
    from typing import ClassVar

    import msgspec
    from streamapp import App, inbox
    from streamapp.windows import Count

    app = App("placed")

    class Order(msgspec.Struct, frozen=True):
        KEY: ClassVar[str] = "buyer"
        buyer: str
        occurred_at: str = "2026-01-01T00:00:00Z"
        notes: list[str] = []

    class Wish(msgspec.Struct, frozen=True):
        buyer: str
"""
COUNTING = """
    seen = app.Table("seen", default=int).upsert_to(app.topic("rows", partitioner=NAME))
    out = app.topic("out", value_type=Order, partitioner=NAME)

    @app.agent(app.topic("orders", value_type=Order, partitioner=NAME))
    async def count(stream):
        async for order in stream:
            seen[order.buyer] += 1
            await out.send(key=order.buyer, value=order)

    @app.agent(out)
    async def read(stream):
        async for order in stream:
            pass
"""
Start = Callable[..., Bench]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    benches = []

    def begin(code: str, **names: Any) -> Bench:
        text = dedent(APP) + "\n".join(f"{name} = {value!r}" for name, value in names.items()) + "\n" + dedent(code)
        (tmp_path / "placed_app.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        benches.append(Bench("placed_app", partitions=COUNT))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.close(quietly=True)


def views_of(bench: Bench) -> Views:
    bench.settle()
    views = queries.views_of(bench.app)
    assert views is not None
    return views


# --- the functions


def test_hashes_are_those_of_their_definitions() -> None:
    assert crc32(b"123456789") == 0xCBF43926
    assert fnv1a(b"") == 2**32 - 0x811C9DC5
    assert fnv1a(b"a") == 2**32 - 0xE40C292C
    assert fnv1a(b"foobar") == 2**32 - 0xBF9CF968
    assert fnv1a(b"fo") == 0x6222E842


@given(st.binary(max_size=40), st.integers(1, 1000))
def test_a_key_has_one_place_and_names_that_hash_alike_agree(key: bytes, count: int) -> None:
    hashed = 0x811C9DC5
    for byte in key:
        hashed = (hashed ^ byte) * 0x01000193 % 2**32
    signed = hashed - 2**32 if hashed >> 31 else hashed
    wanted = {"consistent": crc32(key), "murmur2": murmur2(key) & 0x7FFFFFFF, "fnv1a": abs(signed)}
    for name, hash_ in wanted.items():
        for partitioner in (PARTITIONERS[name], PARTITIONERS[f"{name}_random"]):
            assert partitioner.partition_of(key, count) == hash_ % count
            assert partitioner.partition_for(key, count, 5) == hash_ % count
            assert not key or not partitioner.scatters(key)
    assert DEFAULT.partition_of(key, count) == partition_of(key, count)


@given(st.integers(1, 100), st.integers(0, 1000))
def test_where_records_without_a_key_go(count: int, turn: int) -> None:
    for name, partitioner in PARTITIONERS.items():
        is_random = name.endswith("_random")
        assert partitioner.scatters(None) == is_random
        wanted = turn % count if is_random else partitioner.partition_of(b"", count)
        assert partitioner.partition_for(None, count, turn) == wanted
    assert [name for name, it in PARTITIONERS.items() if it.scatters(b"")] == ["consistent_random"]
    assert PARTITIONERS["consistent"].partition_for(None, count, turn) == 0


# --- what a worker does


@pytest.mark.parametrize("name", PARTITIONERS)
def test_everything_goes_by_the_declared_partitioner(start: Start, name: str) -> None:
    bench, partitioner = start(COUNTING, NAME=name), PARTITIONERS[name]
    for key in KEYS:
        bench.feed("orders", {"buyer": key})
    assert bench.table("seen") == dict.fromkeys(KEYS, 1)
    assert not bench.dead_letters("orders")
    assert not bench.dead_letters("out")
    for topic in ("orders", "out", "rows"):
        places = {record.key: record.partition for record in bench.records(topic)}
        assert places == {key: partitioner.partition_of(key.encode(), COUNT) for key in KEYS}
    views = views_of(bench)
    for key in KEYS:
        numbers = views.partitions_of("seen", key.encode(), COUNT)
        assert numbers == (
            list(range(COUNT))
            if partitioner.scatters(key.encode())
            else [partitioner.partition_of(key.encode(), COUNT)]
        )
        found = [views.find("seen", at, key.encode(), None, is_stored=False)[0] for at in numbers]
        assert [value for value in found if value is not None] == [1]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("declared", [None, "murmur2"])
def test_without_the_declaration_they_are_dead_letters_with_both_remedies(
    start: Start, name: str, declared: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    bench, partitioner = start(COUNTING, NAME=declared), PARTITIONERS[name]
    caplog.set_level(logging.WARNING)
    away = [key for key in KEYS if partitioner.partition_of(key.encode(), COUNT) != partition_of(key.encode(), COUNT)]
    for key in KEYS:
        bench.feed("orders", {"buyer": key}, partition=partitioner.partition_of(key.encode(), COUNT))
    assert sorted(letter.key for letter in bench.dead_letters("orders")) == sorted(away)
    assert {letter.kind for letter in bench.dead_letters("orders")} == {"WrongPartition"}
    lines = [record.getMessage() for record in caplog.records if "is a dead letter" in record.getMessage()]
    for line in lines:
        if declared is None:
            assert "by murmur2_random, not" in line
            assert "set partitioner=murmur2_random at the senders" in line
            assert "all senders of this topic use one other partitioner" in line
            assert """app.topic('orders', partitioner="consistent_random")""" in line
        else:
            assert "is declared with partitioner=murmur2: set it at the senders" in line
    assert lines


def test_an_empty_key_that_goes_anywhere_is_taken_from_any_partition(start: Start) -> None:
    bench = start(COUNTING, NAME="consistent_random")
    for number in range(COUNT):
        bench.feed("orders", {"buyer": ""}, partition=number)
    bench.feed("orders", {"buyer": "a"}, partition=(PARTITIONERS["consistent"].partition_of(b"a", COUNT) + 1) % COUNT)
    assert [letter.key for letter in bench.dead_letters("orders")] == ["a"]
    assert views_of(bench).partitions_of("seen", b"", COUNT) == [0, 1, 2, 3]


INBOX = """
    taken = app.Table("taken", default=int)

    @app.agent(app.topic("notes", partitioner=NAME))
    @inbox(aggregate_type="NOTE", event_type="NOTE_COUNT", event_id="id")
    async def note(stream):
        async for value in stream:
            taken[value["id"]] += 1
"""


@pytest.mark.parametrize(
    ("name", "key", "partition", "is_taken"),
    [
        ("consistent_random", b"", 0, False),
        ("consistent_random", None, 0, False),
        ("consistent_random", b"k", None, True),
        ("consistent", b"", None, True),
        ("consistent", None, None, True),
        ("consistent", None, 1, False),
        ("fnv1a", None, None, True),
        ("fnv1a", None, (fnv1a(b"") + 1) % COUNT, False),
        ("fnv1a_random", None, 0, False),
        ("fnv1a_random", b"", None, True),
        ("murmur2", None, None, True),
        ("murmur2_random", None, 0, False),
        ("murmur2_random", b"", None, True),
    ],
)
def test_an_inbox_takes_what_always_comes_to_one_partition(
    start: Start, name: str, key: bytes | None, partition: int | None, is_taken: bool
) -> None:
    bench = start(INBOX, NAME=name)
    for _ in range(2):
        bench.feed("notes", {"id": "n"}, key=key, partition=partition)
    assert bench.table("taken") == ({"n": 1} if is_taken else {})
    assert {letter.kind for letter in bench.dead_letters("notes")} == (set() if is_taken else {"NoKey"})
    if key and is_taken:
        (number,) = views_of(bench).partitions_of("inbox", key, COUNT)
        assert views_of(bench).find("inbox", number, b"n", key, is_stored=False)[0]


def test_the_pages_of_marks_are_asked_for_at_each_partitioner_of_the_inbox(start: Start) -> None:
    other = INBOX.replace("taken", "other").replace("notes", "plain").replace("note(", "plain(").replace("NAME", "None")
    third = """
    @app.agent(app.topic("third", partitioner="consistent"))
    async def third(stream):
        async for value in stream:
            pass
    """
    bench = start(INBOX + other + third, NAME="fnv1a")
    bench.feed("notes", {"id": "n"}, key="key-1")
    bench.feed("plain", {"id": "n"}, key="key-1")
    assert bench.table("taken") == bench.table("other") == {"n": 1}
    views = views_of(bench)
    for key in (b"key-1", b"key-2", b"key-3", b"key-4", b"key-5"):
        wanted = {PARTITIONERS[name].partition_of(key, COUNT) for name in ("fnv1a", "murmur2")}
        assert views.partitions_of("inbox", key, COUNT) == sorted(wanted)


@pytest.mark.parametrize("name", OTHERS)
def test_windows_and_their_views_go_by_it_and_the_kit_moves_every_watermark(start: Start, name: str) -> None:
    bench = start(
        """
    hours = app.Table("hours").tumbling(3600, grace=10, topic="orders").aggregate(count=Count())

    @app.agent(app.topic("orders", value_type=Order, partitioner=NAME))
    async def count(stream):
        async for order in stream:
            hours.add(order.buyer, order)
    """,
        NAME=name,
    )
    for key in KEYS:
        bench.feed("orders", {"buyer": key or "empty"})
    views = views_of(bench)
    for key in KEYS[1:]:
        (number,) = views.partitions_of("hours", key.encode(), COUNT)
        assert number == PARTITIONERS[name].partition_of(key.encode(), COUNT)
        found = views.find("hours", number, f"{key}|2026-01-01T00:00:00Z".encode(), None, is_stored=False)[0]
        assert (found["count"], found["final"]) == (1, False)
    bench.advance_event_time("orders", "2026-01-01T03:00:00Z", like={"buyer": "nobody"})
    assert not bench.dead_letters("orders")
    assert not bench.table("hours").keys() & set(KEYS)  # they are closed in each partition


# --- refusals


def refusals(bench: Bench) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        bench.settle()
    return tuple(caught.value.problems)


def test_an_unknown_name_is_refused_with_those_there_are(start: Start) -> None:
    (problem,) = refusals(start('app.topic("orders", partitioner="crc32")'))
    assert "partitioner='crc32' of orders" in problem
    assert all(name in problem for name in PARTITIONERS)


def test_two_names_for_one_topic_are_refused(start: Start) -> None:
    bench = start(
        COUNTING + '    app.topic("orders", partitioner="fnv1a")\n    app.topic("orders")\n', NAME="consistent"
    )
    (problem,) = refusals(bench)
    assert "orders is declared with partitioner='consistent' and with partitioner='fnv1a'" in problem


TWO = """
    seen = app.Table("seen", default=int)
    {windowed}

    @app.agent(app.topic("one", value_type=Order, partitioner=FIRST))
    async def first(stream):
        async for order in stream:
            seen[order.buyer] += 1

    @app.agent(app.topic("two", value_type=Order, partitioner=SECOND))
    async def second(stream):
        {body}
"""
PLAIN = "async for order in stream:\n    seen[order.buyer] += 1"
GROUPED = "async for order in stream.group_by(Order.__struct_fields__[0], name='b'):\n    seen[order.buyer] += 1"
NOTHING = "async for order in stream:\n    pass"


def two(start: Start, first: str | None, second: str | None, body: str, windowed: str = "") -> Bench:
    code = dedent(TWO).replace("{windowed}", windowed).replace("    {body}", indent(body, "    "))
    return start(code, FIRST=first, SECOND=second)


@pytest.mark.parametrize(
    ("first", "second", "body", "said"),
    [
        ("consistent_random", None, PLAIN, "one by consistent_random; two by murmur2_random"),
        ("fnv1a", "consistent", PLAIN, "one by fnv1a; two by consistent"),
        ("consistent", None, GROUPED, "one by consistent; what placed_app.second moves on by murmur2_random"),
        ("consistent", "consistent", GROUPED, "one by consistent; what placed_app.second moves on by murmur2_random"),
    ],
)
def test_one_table_of_topics_with_different_partitioners_is_refused(
    start: Start, first: str | None, second: str | None, body: str, said: str
) -> None:
    (problem,) = refusals(two(start, first, second, body))
    assert problem.startswith(f"Table seen belongs to events whose keys are placed by different partitioners ({said})")
    assert "group_by() the events of all of them" in problem


@pytest.mark.parametrize(
    ("first", "second", "body"),
    [
        ("consistent_random", "consistent", PLAIN),
        ("murmur2", None, PLAIN),
        ("consistent_random", None, NOTHING),
        (None, "consistent", NOTHING),
    ],
)
def test_tables_whose_topics_agree_are_not(start: Start, first: str | None, second: str | None, body: str) -> None:
    bench = two(start, first, second, body)
    bench.feed("one", {"buyer": "a"})
    bench.feed("two", {"buyer": "a"})
    assert bench.table("seen") == {"a": 1 if body is NOTHING else 2}


def test_windows_of_topics_with_different_partitioners_are_refused(start: Start) -> None:
    windowed = 'hours = app.Table("hours").tumbling(3600, grace=10, topic=["one", "two"]).aggregate(count=Count())'
    (problem,) = refusals(two(start, "consistent", None, NOTHING, windowed))
    assert problem.startswith("Table hours belongs to events")


def test_all_refusals_come_in_one_list(start: Start) -> None:
    bench = two(start, "consistent", "consistent", PLAIN, 'app.topic("two", partitioner="fnv1a"); app.SetTable("more")')
    assert len(refusals(bench)) == 3


GROUPING = """
    seen = app.Table("seen", default=int)

    five = DECLARED

    @app.agent(app.topic("orders", value_type=Wish, partitioner="consistent_random"))
    async def count(stream):
        async for key, order in stream.group_by(lambda order: order.buyer[:5], name="five", topic=five).items():
            seen[key] += 1
"""


def test_a_group_by_brings_keys_to_kafkas_default(start: Start) -> None:
    bench = start(GROUPING, DECLARED=None)
    for key in KEYS:
        bench.feed("orders", {"buyer": key}, key=key)
    rows, views = bench.table("seen"), views_of(bench)
    assert sum(rows.values()) == len(KEYS)
    for key in rows:
        (number,) = views.partitions_of("seen", key.encode(), COUNT)
        assert number == partition_of(key.encode(), COUNT)
        assert views.find("seen", number, key.encode(), None, is_stored=False)[0] == rows[key]


def test_a_topic_that_events_are_moved_into_may_not_declare_one(start: Start) -> None:
    code = GROUPING.replace("DECLARED", 'app.topic("five", value_type=Order, partitioner="fnv1a")')
    (problem,) = refusals(start(code))
    assert "five is declared with partitioner='fnv1a', but group_by() and through() move events into it" in problem


def test_a_partitioner_that_is_declared_while_the_worker_runs_is_refused(start: Start) -> None:
    bench = start("""
    @app.agent(app.topic("orders", value_type=Order))
    async def work(stream):
        async for order in stream:
            await app.topic("out", partitioner="consistent").send(key=order.buyer, value=order)
    """)
    bench.feed("orders", {"buyer": "a"})
    (problem,) = refusals(bench)
    assert "declared while the worker runs" in problem


def test_a_topic_of_the_contract_may_not_declare_one() -> None:
    before = service.__dict__.get("app")
    try:
        app = service.use(service.App(settings=load(id="placed")))
        app.topic("transfer", partitioner="consistent_random")
        app.topic("notes", partitioner="consistent_random")
        (problem,) = app._misplaced()
        assert problem.startswith("transfer is declared with partitioner='consistent_random', but it is a topic of")
        app.is_the_service = False
        assert not list(app._misplaced())
    finally:
        service.__dict__["app"] = before
        if before is None:
            del service.__dict__["app"]
