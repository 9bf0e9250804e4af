"""What an event writes is looked at while it runs: it can be sealed and read again, or is the event's dead letter."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from textwrap import dedent
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.app import App
from streamapp.driver.tables.keys import NESTING_MAX
from streamapp.errors import RecordError
from streamapp.settings import load
from streamapp.testing import Bench

APP = App(settings=load(id="rows"))
MIXED, OF_BYTES = APP.Table("mixed"), APP.Table("of-bytes", key_type=bytes)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_DIGITS = st.integers().map(lambda number: str(number).encode())
KEYS = _SCALARS | st.binary() | _DIGITS | st.sampled_from([b"null", b"NaN", b"[1]", b"true", b"{}", b" 1"])
KEYS |= st.tuples(_SCALARS, _SCALARS)
JSON = st.recursive(_SCALARS, lambda part: st.lists(part) | st.dictionaries(st.text(), part), max_leaves=8)


@given(KEYS, JSON)
@pytest.mark.filterwarnings("ignore")
def test_a_row_reads_back_equal(key: Any, value: Any) -> None:
    MIXED.forget()
    MIXED[key] = value
    assert MIXED[key] == value
    ((found, read),) = MIXED.items()
    assert (found, type(found), read) == (key, type(key), value)
    assert list(MIXED.keys()) == [key]
    MIXED.clear()
    assert len(MIXED) == 0


@given(st.lists(KEYS, min_size=2, max_size=6))
@pytest.mark.filterwarnings("ignore")
def test_two_keys_are_never_one_row(keys: list[Any]) -> None:
    MIXED.forget()
    written: dict[tuple[type, str], int] = {}
    for number, key in enumerate(keys):
        if isinstance(key, str):
            continue  # rows of text are as Faust's, with nothing behind them
        try:
            MIXED[key] = number
        except RecordError as error:
            assert error.kind == "InvalidKey"
        else:
            written[type(key), repr(key)] = number
    assert {(type(key), repr(key)): value for key, value in MIXED.items()} == written


def test_digits_as_bytes_and_as_a_number() -> None:
    MIXED.forget()
    MIXED[b"1"] = "bytes"
    for use in (MIXED.get, MIXED.__contains__, MIXED.__getitem__, MIXED.pop, lambda key: MIXED.update({key: 2})):
        with pytest.raises(RecordError, match="key_type=bytes"):
            use(1)
    assert list(MIXED.items()) == [(b"1", "bytes")]


@pytest.mark.parametrize("key", [1, b"1", b"ann", "ann", "\u00fc", None, True])
def test_a_row_that_faust_or_an_earlier_version_wrote_is_found_overwritten_and_deleted(key: Any) -> None:
    raw = APP.serializers.dumps_key(None, key, serializer="json")
    for use in (lambda: MIXED.pop(key), lambda: MIXED.update({key: 6}) or MIXED.pop(key)):
        MIXED.forget()
        rows = MIXED.rows_in_memory()
        rows.set(raw, b"5")
        rows.merge()
        assert MIXED[key] == 5
        assert use() in (5, 6)
        assert len(MIXED) == 0


def test_a_key_of_a_declared_type() -> None:
    OF_BYTES[b"1"] = 2
    assert list(OF_BYTES.items()) == [(b"1", 2)]
    with pytest.raises(RecordError, match="not bytes"):
        OF_BYTES["1"] = 3


@pytest.mark.parametrize("value", [b"\xff", b"no JSON", {"deep": 1}])
def test_a_value_that_could_not_be_read_again_is_refused(value: Any) -> None:
    for _ in range(NESTING_MAX if isinstance(value, dict) else 0):
        value = [value]
    with pytest.raises(RecordError, match=r"read again|nested"):
        MIXED["a"] = value
    assert "a" not in MIXED


class Place(msgspec.Struct, frozen=True):
    kind: Literal["home", "work"]
    counts: dict[str, int]
    name: str


class Bounded(msgspec.Struct, frozen=True):
    amount: Annotated[int, msgspec.Meta(le=9)]
    name: str


@pytest.mark.parametrize(
    ("table", "good", "bad"),
    [
        (APP.Table("places", value_type=Place), Place("home", {"a": 2**70}, "x"), Place("away", {}, "x")),
        (APP.Table("names", value_type=Place), Place("home", {}, "x"), Place("home", {}, 7)),
        (APP.Table("bounded", value_type=Bounded), Bounded(9, "x"), Bounded(10, "x")),
        (APP.Table("numbers", value_type=int), 5, "x"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_typed_row_that_could_not_be_read_again_is_refused(table: Any, good: Any, bad: Any) -> None:
    for _ in range(3):
        table["a"] = good
        assert table["a"] == good
        with pytest.raises(RecordError, match="read again"):
            table["a"] = bad
    assert table["a"] == good


SHOP = """
    from streamapp import App, after_commit, inbox

    app = App("rows_shop")
    kept = app.Table("kept", default=list).upsert_to(app.topic("kept-now"))
    plain = app.Table("plain", default=list)
    limited = app.Table("limited", default=list).upsert_to(app.topic("limited-now"), emit_every=5)
    out = app.topic("out")

    @after_commit.handler
    async def note(payload): ...

    @app.agent(app.topic("order"))
    @inbox(aggregate_type="ORDER", event_type="ORDER_KEEP", event_id="id")
    async def keep(stream):
        async for order in stream:
            text = order.get("letter", "x") * order["size"]
            match order["to"]:
                case "row": plain["k"] = [*plain["k"], text]
                case "key": plain[text] = 1
                case "upsert": kept["k"] = text
                case "held": limited["k"] = text
                case "topic": await out.send(key="k", value=text)
                case "intent": after_commit(note, text)
            if order["id"] == "last":
                plain["last"] = 1
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Bench]]:
    (tmp_path / "rows_shop.py").write_text(dedent(SHOP))
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: Bench("rows_shop")
    sys.modules.pop("rows_shop", None)


@pytest.mark.parametrize("to", ["row", "key", "upsert", "held", "topic", "intent"])
def test_what_is_too_large_is_its_events_dead_letter_and_the_worker_goes_on(shop: Any, to: str) -> None:
    with shop() as app:
        app.feed("order", {"id": "1", "to": to, "size": 1_100_000}, {"id": "last", "to": "no", "size": 0}, key="k")
        assert [letter.kind for letter in app.dead_letters("order")] == ["RecordTooLarge"]
        assert app.table("plain") == {"last": 1}
        assert app.starts == 1


def test_letters_of_two_bytes_in_a_key_take_six(shop: Any) -> None:
    with shop() as app:
        order = {"id": "1", "to": "key", "letter": "\u00fc", "size": 200_000}
        app.feed("order", order, {"id": "last", "to": "no", "size": 0}, key="k")
        assert [letter.kind for letter in app.dead_letters("order")] == ["RecordTooLarge"]
        assert app.table("plain") == {"last": 1}


def test_an_inbox_mark_of_a_long_key_is_looked_at_too(shop: Any) -> None:
    with shop() as app:
        app.feed("order", {"id": "1", "to": "no", "size": 0}, key="\x01" * 200_000)  # six bytes each in a mark
        app.feed("order", {"id": "last", "to": "no", "size": 0}, key="k")
        assert [letter.kind for letter in app.dead_letters("order")] == ["RecordTooLarge"]
        assert app.table("plain") == {"last": 1}


WINDOWED = """
    from streamapp import App

    app = App("windows_shop")
    hours = app.Table("hours", default=str).tumbling(3600, topic="order").upsert_to(app.topic("hour"), final_only=True)

    @app.agent(app.topic("order"))
    async def keep(stream):
        async for order in stream:
            hours[order["key"]] += order.get("letter", "x") * order["size"]
"""


@pytest.mark.parametrize("letter", ["x", "\u00fc", "\x01"])
@pytest.mark.parametrize("key", ["k", "\u00fc" * 1_000])
def test_what_makes_the_final_of_a_window_too_large_is_a_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, letter: str, key: str
) -> None:
    """At the closing there would be no event to blame, and every worker would end on it, at every start."""
    (tmp_path / "windows_shop.py").write_text(dedent(WINDOWED))
    monkeypatch.syspath_prepend(tmp_path)
    at = "2026-01-01T00:{:02}:00Z"
    with Bench("windows_shop") as app:
        app.broker.create_topic("hour", max_message_bytes=60_000)
        for number in range(20):
            order = {"key": key, "letter": letter, "size": 4_000}
            app.feed("order", order | {"occurred_at": at.format(number)}, key="k", at=at.format(number))
        app.settle()
        assert {it.kind for it in app.dead_letters("order")} == {"RecordTooLarge"}
        app.feed(
            "order", {"key": "z", "size": 1, "occurred_at": "2026-01-01T05:00:00Z"}, key="k", at="2026-01-01T05:00:00Z"
        )
        app.settle()
        finals = {record.value["key"]: record.value for record in app.records("hour") if record.value["final"]}
        assert list(finals) == [key], "the window was closed, with what fitted"
        assert finals[key]["value"] and app.starts == 1
    sys.modules.pop("windows_shop", None)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_events_write_can_be_sealed(shop: Any, seed: int) -> None:
    random = Random(seed)
    with shop() as app:
        orders = [
            {
                "id": str(number),
                "to": random.choice(["row", "key", "upsert", "held", "topic", "intent"]),
                "letter": random.choice(["x", "\u00fc", "\x01"]),
                "size": random.choice([1, 100_000, 170_000, 260_000, 520_000, *range(1_048_000, 1_065_000, 1_000)]),
            }
            for number in range(30)
        ]
        app.feed("order", *orders, {"id": "last", "to": "no", "size": 0}, key="k")
        assert app.table("plain")["last"] == 1
        assert app.starts == 1
        assert {letter.kind for letter in app.dead_letters("order")} == {"RecordTooLarge"}
