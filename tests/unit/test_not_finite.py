"""What is sent or stored is read back equal, or it is refused: JSON has no NaN and no infinities."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from math import inf, nan
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal, NamedTuple
from uuid import UUID

import faust
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamapp import finite
from streamapp.app import App
from streamapp.codec import Codec
from streamapp.delivery import after_commit
from streamapp.delivery.inbox import Fields
from streamapp.driver.streams.faust_reader import FaustReader
from streamapp.driver.streams.schema import dumped
from streamapp.engine.reader import RecordReader
from streamapp.engine.record import Record
from streamapp.errors import RecordError
from streamapp.settings import load
from streamapp.testing import Bench, inputs
from streamapp.windows.aggregates import Aggregates, Last, Mean, Reduce


class Anything(msgspec.Struct):
    what: Any
    more: float | None = None


class Line(faust.Record):
    cents: float
    what: Any = None


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    one: int
    other: float


class Tree(msgspec.Struct):
    name: str
    trees: list[Tree] = []


class Measured(Tree):
    value: float = 0.0


class Exact(msgspec.Struct):
    a: int | None
    b: list[tuple[str, ...]]
    c: dict[str, Decimal]
    d: datetime | None
    e: Literal["x", "y"]
    f: Colour
    g: timedelta
    h: tuple[()]
    i: Tree
    j: UUID


APP = App(settings=load(id="finite"))
UNTYPED, TYPED = APP.topic("untyped"), APP.topic("typed", value_type=Anything)
MODELS = APP.topic("models", value_type=Line)
ROWS, TYPED_ROWS = APP.Table("rows"), APP.Table("typed-rows", value_type=Anything)
MODEL_ROWS = APP.Table("model-rows", value_type=Line)

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["NaN", "Infinity"])
VALUES = st.recursive(_SCALARS, lambda part: st.lists(part) | st.dictionaries(st.text(), part), max_leaves=8)
NOT_FINITE = [nan, inf, -inf]


def sent(topic: Any, value: Any) -> Any:
    """What an agent is given of it, by our reader."""
    raw, _ = dumped(topic.schema, APP, value, None, [])
    codec = getattr(topic.schema, "codec", None)
    reader = FaustReader(APP, topic.schema) if codec is None else RecordReader(codec, 1)
    return reader.read(Record("any", 0, 0, 0, None, raw))[1]


def stored(table: Any, value: Any) -> Any:
    table.forget()
    table["k"] = value
    return table["k"]


def written_and_read(dump: Callable[[Any], bytes], value: Any) -> Any:
    return msgspec.json.decode(dump(value))


WAYS: dict[str, Callable[[Any], Any]] = {
    "sent without a type": lambda value: sent(UNTYPED, value),
    "sent with a type": lambda value: sent(TYPED, Anything(value)).what,
    "sent to a type as a dict": lambda value: sent(TYPED, {"what": value}).what,
    "sent as a record of Faust's": lambda value: sent(MODELS, Line(cents=1.0, what=value)).what,
    "a row": lambda value: stored(ROWS, value),
    "a row with a type": lambda value: stored(TYPED_ROWS, Anything(value)).what,
    "a row that is a record of Faust's": lambda value: stored(MODEL_ROWS, Line(cents=1.0, what=value)).what,
    "an intent": lambda value: after_commit.unpack(b"id", after_commit.pack("note", value, 0)).payload,
    "a window": lambda value: written_and_read(Aggregates({"last": Last("x")}).dump, {"last": [1, value]})["last"][1],
    "fed to a test": lambda value: msgspec.json.decode(inputs.as_bytes([value]) or b"")[0],
}


@pytest.mark.parametrize("way", WAYS)
@given(VALUES)
@example({"a": [nan]})
@example([None, inf])
@example([-inf, "null"])
@example({"Infinity": "NaN", "null": None})
def test_it_reads_back_equal_or_is_refused(way: str, value: Any) -> None:
    try:
        found = WAYS[way](value)
    except RecordError as error:
        assert error.kind == "NotFinite"
        assert not finite.is_finite(value)
    except (UnicodeEncodeError, OverflowError):  # what a serializer does not take is the event's error, too
        assert finite.is_finite(value)
    else:
        assert finite.is_finite(value)
        assert found == value


@pytest.mark.parametrize("number", NOT_FINITE)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_finite_is_refused(way: str, number: float) -> None:
    for value in (number, [number], {"a": {"b": [None, number]}}):
        with pytest.raises(RecordError, match="NaN or infinite") as caught:
            WAYS[way](value)
        assert caught.value.kind == "NotFinite"


@pytest.mark.parametrize("number", NOT_FINITE)
def test_fields_keys_and_ids_that_are_not_finite(number: float) -> None:
    for refused in (
        lambda: sent(TYPED, Anything(1, number)),
        lambda: sent(MODELS, Line(cents=number)),
        lambda: stored(TYPED_ROWS, Anything(1, number)),
        lambda: dumped(UNTYPED.schema, APP, [number], "json", []),
        lambda: ROWS.update({number: 1}),
        lambda: stored(ROWS, msgspec.json.encode([1]).replace(b"1", str(number).encode().title())),
        lambda: Fields("id").id_of({"id": number}),
        lambda: Fields("id").id_of({"id": [number]}),
    ):
        with pytest.raises(RecordError):
            refused()
    assert sent(TYPED, Anything(1, None)) == Anything(1, None)


def test_bytes_and_other_serializers_are_taken_as_they_are() -> None:
    assert dumped(UNTYPED.schema, APP, b"NaN", None, [])[0] == b"NaN"
    assert dumped(UNTYPED.schema, APP, "NaN", "raw", [])[0] == b"NaN"


def test_what_is_written_beside_a_null_is_written_as_ever() -> None:
    for value in (msgspec.Raw(b'{"a":null}'), {1.5: None, 2: Colour.RED}, [None, Decimal("NaN"), (1,), {2}], None):
        assert finite.encode(value) == msgspec.json.encode(value)


def test_an_error_of_the_serializer_that_is_another_stays_one() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        dumped(UNTYPED.schema, APP, circle, None, [])


@pytest.mark.parametrize(
    ("kind", "may"),
    [
        (int, False),
        (str | None, False),
        (list[list[int]], False),
        (Exact, False),
        (Tree, False),
        (Measured, True),
        (float | None, True),
        (dict[str, Pair], True),
        (Any, True),
        (list, True),
        (complex, True),
    ],
)
def test_it_is_known_of_a_type_whether_it_may_hold_a_float(kind: Any, may: bool) -> None:
    assert finite.may_hold_float(kind) is may
    assert (finite.encoder(kind) is finite.encode) is may


def test_a_type_without_floats_costs_nothing() -> None:
    assert type(Codec(Exact).encode) is type(msgspec.json.Encoder().encode)


class Ratio(Mean):
    """Somebody's own: its state can be kept, and its result cannot be sent."""

    def result(self, state: Any) -> Any:
        return nan


def test_a_result_that_could_not_be_sent_is_refused_when_it_is_added() -> None:
    with pytest.raises(RecordError, match="NaN or infinite"):
        Aggregates({"ratio": Ratio("x")}).dump({"ratio": [1, 2]})
    with pytest.raises(RecordError, match="NaN or infinite"):
        Aggregates({"own": Reduce(lambda state, value: nan)}).dump({"own": nan})


SHOP = """
    from math import inf, nan

    import msgspec
    from streamapp import App, after_commit
    from streamapp.windows import Count, Reduce
    from streamapp.windows.aggregates import Count as Counted

    class Total(msgspec.Struct):
        cents: float | None

    class Share(Counted):
        def result(self, state):
            return nan if state == 2 else 1.0

    app = App("numbers")
    plain, typed = app.topic("plain"), app.topic("typed", value_type=Total)
    rows = app.Table("rows").upsert_to(app.topic("rows-now"))
    held = app.Table("held").upsert_to(app.topic("held-now"), emit_every=5)
    totals = app.Table("totals", value_type=Total).upsert_to(app.topic("totals-now", value_type=Total))
    minutes = (
        app.Table("minutes").tumbling(60, topic="order").aggregate(share=Share())
        .upsert_to(app.topic("minutes-now"), final_only=True)
    )
    numbers = app.Table("numbers", default=float).tumbling(60, topic="order")

    @after_commit.handler
    async def note(payload): ...

    @app.agent(app.topic("order"))
    async def act(stream):
        async for order in stream:
            match order["to"]:
                case "plain": await plain.send(key="k", value={"a": nan})
                case "soon": plain.send_soon(key="k", value=inf)
                case "typed": await typed.send(key="k", value=Total(-inf))
                case "dict": await typed.send(key="k", value={"cents": nan})
                case "row": rows["k"] = [nan]
                case "held": held["k"] = nan
                case "total": totals["k"] = Total(inf)
                case "intent": after_commit(note, {"a": nan})
                case "window": numbers["k"] += inf
                case "share":
                    minutes.add("k", order)
                    minutes.add("k", order)
                case _: rows["last"] = 1
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Bench]]:
    (tmp_path / "numbers_shop.py").write_text(dedent(SHOP))
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: Bench("numbers_shop")
    sys.modules.pop("numbers_shop", None)


def test_each_is_its_events_dead_letter_and_the_worker_goes_on(shop: Any) -> None:
    ways = ["plain", "soon", "typed", "dict", "row", "held", "total", "intent", "window", "share"]
    with shop() as app:
        orders = [{"to": way} for way in [*ways, "last"]]
        app.feed("order", *orders, key="k", at="2026-03-01T09:00:00Z")
        letters = app.dead_letters("order")
        assert [(letter.value["to"], letter.kind) for letter in letters] == [(way, "NotFinite") for way in ways]
        assert app.table("rows") == {"last": 1}
        for topic in ("plain", "typed", "held-now", "totals-now"):
            assert app.records(topic) == []
        assert app.starts == 1
