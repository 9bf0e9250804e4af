"""Upserts of plain tables: every change, at most one in a while, and the last value whatever happens."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from streamapp import App
from streamapp.driver.tables import row_upserts
from streamapp.driver.tables.row_upserts import HeldRow
from streamapp.errors import ConfigurationError
from streamapp.settings import load
from streamapp.testing import Bench, crash_everywhere, readings

EVERY_S = 5.0
#: A row waits for its time, for the next look, and for the commit.
WITHIN_S = EVERY_S * 1.25 + 0.5

SHOP = """
    from typing import ClassVar
    import asyncio
    import msgspec
    from streamapp import App

    class Order(msgspec.Struct, frozen=True):
        KEY: ClassVar[str] = "customer"
        customer: str
        cents: int | None
        pause: float = 0.0

    app = App("shop")
    spent = app.Table("spent").upsert_to(app.topic("spent-now"), OPTIONS)

    @app.agent(app.topic("order", value_type=Order))
    async def add_up(stream):
        async for order in stream:
            await asyncio.sleep(order.pause)
            if order.cents is None:
                spent.pop(order.customer, None)
            else:
                spent[order.customer] = spent.get(order.customer, 0) + order.cents
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Makes the app with these options of its upserts."""

    def make(options: str = f"emit_every={EVERY_S}") -> str:
        (tmp_path / "shop.py").write_text(dedent(SHOP.replace("OPTIONS", options)))
        return "shop"

    monkeypatch.syspath_prepend(tmp_path)
    yield make
    sys.modules.pop("shop", None)


def order(cents: int | None, customer: str = "ann", pause: float = 0.0) -> dict[str, Any]:
    return {"customer": customer, "cents": cents, "pause": pause}


def now(app: Bench, customer: str = "ann") -> list[Any]:
    """The upserts of a customer."""
    return [record.value for record in app.records("spent-now") if record.key == customer]


def test_the_first_change_is_sent_at_once_and_the_last_without_a_further_event(shop: Any) -> None:
    with Bench(shop()) as app:
        app.feed("order", order(1), order(2), order(3), order(9, "bob"))
        assert (now(app), now(app, "bob")) == ([1], [9])
        app.advance(WITHIN_S)
        assert (now(app), now(app, "bob")) == ([1, 6], [9])
        app.advance(3 * EVERY_S)
        assert (now(app), app.table("spent_upserts")) == ([1, 6], {}), "a mark is gone when it means nothing any more"
        app.feed("order", order(4))
        assert now(app) == [1, 6, 10]


def test_a_row_that_always_changes_is_sent_once_in_the_interval(shop: Any) -> None:
    with Bench(shop()) as app:
        for _ in range(80):
            app.feed("order", order(1))
            app.advance(0.5)
        app.advance(WITHIN_S)
        times = [float(record.appended_at) for record in app.records("spent-now")]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert min(gaps) >= EVERY_S * 0.97, "the append is a commit later than the decision, now and then"
        assert max(gaps) <= WITHIN_S
        assert now(app)[-1] == 80


def test_without_a_limit_every_change_is_sent(shop: Any) -> None:
    with Bench(shop("")) as app:
        app.feed("order", order(1), order(2), order(None), order(4))
        assert now(app) == [1, 3, None, 4]
        assert "spent_upserts" not in app.app.tables


def test_a_deletion_waits_as_a_value_does(shop: Any) -> None:
    with Bench(shop()) as app:
        app.feed("order", order(1), order(2), order(None))
        app.advance(WITHIN_S)
        assert now(app) == [1, None]


@pytest.mark.parametrize("options", ["tombstones=False", f"emit_every={EVERY_S}, tombstones=False"])
def test_without_tombstones_a_deletion_is_not_sent(shop: Any, options: str) -> None:
    with Bench(shop(options)) as app:
        app.feed("order", order(1), order(None))
        app.advance(WITHIN_S)
        assert now(app) == [1]
        app.feed("order", order(7))
        assert now(app) == [1, 7]


@pytest.mark.parametrize("empty", [False, True])
def test_what_is_held_is_known_to_the_next_worker(shop: Any, empty: bool) -> None:
    with Bench(shop()) as app:
        app.feed("order", order(1), order(2))
        assert now(app) == [1]
        app.restart(empty=empty)
        assert now(app) == [1], "its time has not come"
        app.advance(WITHIN_S)
        assert now(app) == [1, 3]


def test_what_is_held_is_sent_once_wherever_the_worker_dies_while_it_is_sent(shop: Any) -> None:
    for point in (
        "commit.before_changelog",
        "commit.before_produce",
        "commit.before_offsets",
        "commit.before_end",
        "commit.before_store",
        "commit.after_store",
    ):
        with Bench(shop()) as app:
            app.feed("order", order(1), order(2))
            assert now(app) == [1]
            app.crash_at(point)
            app.advance(WITHIN_S)
            assert now(app) == [1, 3], point
            assert not app.points.planned, point
            app.advance(3 * EVERY_S)
            assert now(app) == [1, 3], point


def test_a_crash_anywhere_changes_no_last_value(shop: Any) -> None:
    def scenario(app: Bench) -> None:
        app.feed("order", *(order(number, f"c{number % 3}") for number in range(12)), order(None, "c1"))
        app.advance(WITHIN_S)
        app.feed("order", order(5, "c0"), order(6, "c0"))

    report = crash_everywhere(scenario, shop())
    assert {
        "commit.before_changelog",
        "commit.before_end",
        "commit.before_store",
        "revoke.before_commit",
        "restore.half_done",
    } <= {crash.point for crash in report.crashes}


def test_a_mark_that_is_not_in_the_transaction_is_noticed(shop: Any) -> None:
    """What the test above guards: marks kept in the process lose what is held."""
    kept: dict[bytes, bytes] = {}

    class Kept:
        get = staticmethod(kept.get)
        set = staticmethod(kept.__setitem__)

        @staticmethod
        def merge() -> None:
            """Nothing: they are kept at once."""

    with Bench(shop()) as app:
        app.settle()
        app.app.limited_upserts[0].marks.rows = lambda _: Kept
        app.feed("order", order(1), order(2))
        app.settle()
        app.restart()
        app.advance(WITHIN_S)
        assert now(app) == [1]


def test_a_rebalance_loses_nothing_that_is_held(shop: Any) -> None:
    with Bench(shop()) as app:
        app.feed("order", *(order(1, f"c{number}") for number in range(12)))
        app.settle()
        app.rebalance_at("event.before_effects")
        app.feed("order", *(order(1, f"c{number}") for number in range(12)))
        app.settle()
        app.advance(2 * WITHIN_S)
        assert [now(app, f"c{number}")[-1] for number in range(12)] == [2] * 12


def test_a_partition_that_is_never_quiet_sends_what_is_held(shop: Any) -> None:
    with Bench(shop(), partitions=1) as app:
        app.feed("order", order(1), order(2), *(order(1, "bob", pause=0.05) for _ in range(600)))
        app.advance(WITHIN_S + 1)
        inputs = app.app.engine.tasks[0].inputs  # type: ignore[union-attr]
        left = sum(it.buffered for it in inputs.values())
        assert left > 100, "the backlog is over already, and the test shows nothing"
        sent = [it.value for it in readings.records(app.broker, "spent-now") if it.key == "ann"]
        assert sent == [1, 3], "while the backlog lasts"


def test_many_rows_are_sent_in_several_transactions(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_upserts, "LOOKED_AT_MAX", 40)
    monkeypatch.setattr(row_upserts, "SENT_MAX", 15)
    with Bench(shop(), partitions=1) as app:
        names = [f"c{number}" for number in range(100)]
        app.feed("order", *(order(1, name) for name in names))
        app.feed("order", *(order(1, name) for name in names))
        before = app.count("commits")
        app.advance(WITHIN_S + 2)
        assert {name: now(app, name) for name in names} == {key: [1, 2] for key in names}
        assert app.count("commits") - before >= 100 // 15


def test_a_value_too_large_is_its_events_fault_though_it_would_be_held(shop: Any) -> None:
    target = shop()
    text = Path(sys.path[0], "shop.py").read_text()
    Path(sys.path[0], "shop.py").write_text(
        text.replace("+ order.cents", '+ order.cents * "x"').replace(", 0)", ', "")')
    )
    with Bench(target) as app:
        app.broker.create_topic("spent-now", max_message_bytes=1000)
        app.feed("order", order(1), order(2), order(1200))
        assert len(app.dead_letters("order")) == 1
        app.advance(WITHIN_S)
        assert now(app) == ["x", "xxx"]


def test_a_clock_that_was_ahead_holds_nothing() -> None:
    assert HeldRow(1000, held=False).holds(1999, 1000)
    assert not HeldRow(1000, held=False).holds(2000, 1000)
    assert not HeldRow(1000, held=True).holds(999, 1000)
    assert HeldRow.unpack(HeldRow(1000, held=True).pack()) == HeldRow(1000, held=True)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> App:
    monkeypatch.chdir(tmp_path)
    return App(settings=load(id="shop"), autodiscover=False)


async def test_in_a_test_context_the_test_says_when_the_time_has_come(own: App) -> None:
    rows = own.Table("rows").upsert_to(own.topic("rows-now"), emit_every=60)

    @own.agent(own.topic("order"))
    async def keep(stream: Any) -> Any:
        async for value in stream:
            rows["k"] = value
            yield value

    async with keep.test_context() as context:
        for value in (1, 2, 3):
            await context.put(value)
        assert own.outputs is not None
        assert own.outputs.of("rows-now") == [1]
        rows.send_held()
        rows.send_held()
        assert own.outputs.of("rows-now") == [1, 3]


def test_what_a_plain_table_cannot_do_is_refused(own: App) -> None:
    own.Table("a").upsert_to(own.topic("a-now"), final_only=True)
    assert "final_only= is for windows" in own.refusals[0]
    with pytest.raises(ConfigurationError, match="emit_every"):
        own.Table("b").upsert_to(own.topic("b-now"), emit_every=-1)
