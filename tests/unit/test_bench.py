"""The bench for apps: a real worker in memory, fed and asked by plain calls."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest

from streamapp.driver.streams.agent import AgentEnded
from streamapp.driver.tables.after_commit import after_commit
from streamapp.errors import ConfigurationError, StreamAppError
from streamapp.state.partition import TablePartition
from streamapp.testing import Bench, NotSettled
from streamapp.testing import worker as module
from streamapp.testing.crash_points import POINTS
from streamapp.testing.environment import MemoryFetches

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from planted_store import plant_store

SHOP = """
    from typing import ClassVar
    import asyncio
    import msgspec
    from streamapp import App, after_commit, inbox
    import prices

    class Order(msgspec.Struct, frozen=True):
        KEY: ClassVar[str] = "customer"
        order_id: str
        customer: str
        cents: int
        occurred_at: str = "2026-01-01T00:00:00Z"

    app = App("shop")
    orders = app.topic("order", value_type=Order)
    totals = app.topic("customer-total")
    ticks = app.topic("tick")
    spent = app.Table("spent", default=int)
    seen = []

    @app.agent(orders)
    @inbox(aggregate_type="ORDER", event_type="ORDER_ADD_UP", event_id="order_id")
    async def add_up(stream):
        async for order in stream:
            if order.cents < 0:
                raise ValueError("a negative price")
            if order.cents == 666:
                await asyncio.sleep(3600)
            seen.append(order.order_id)
            spent[order.customer] += order.cents
            await totals.send(key=order.customer, value={"cents": spent[order.customer], "at": order.occurred_at})
            if order.cents == 7:
                after_commit("greet", {"customer": order.customer})

    @app.after_commit("greet")
    async def greet(payload):
        await ticks.send(key="greeting", value=payload)

    @app.timer(30)
    async def every_half_minute():
        await ticks.send(key="timer", value="tick")

    @app.crontab("5 0 * * *")
    async def at_five_past_midnight():
        await ticks.send(key="crontab", value="tock")
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module `shop` in a directory of its own, with a module `prices` beside it."""
    (tmp_path / "shop.py").write_text(dedent(SHOP))
    (tmp_path / "prices.py").write_text("cached = []\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "shop"
    for name in ("shop", "prices"):
        sys.modules.pop(name, None)


@pytest.fixture
def app(shop: str) -> Iterator[Bench]:
    with Bench(shop) as bench:
        yield bench


def order(number: int, customer: str = "ann", cents: int = 250) -> dict[str, Any]:
    return {"order_id": str(number), "customer": customer, "cents": cents}


def test_outputs_tables_and_dead_letters_are_what_was_committed(app: Bench) -> None:
    app.feed("order", order(1), order(2, cents=100), order(3, cents=-1), {"order_id": 5}, b"no json")
    assert [output["cents"] for output in app.outputs("customer-total")] == [250, 350]
    assert app.table("spent") == {"ann": 350}
    kinds = {letter.kind: letter for letter in app.dead_letters("order")}
    assert set(kinds) == {"builtins.ValueError", "InvalidRecord", "MalformedRecord"} or len(kinds) == 3
    assert kinds["builtins.ValueError"].reason == "a negative price"
    assert kinds["builtins.ValueError"].value["order_id"] == "3"


def test_a_record_may_be_a_struct_and_has_its_key_from_it(app: Bench) -> None:
    Order = app.module.Order  # noqa: N806 - a class
    app.feed("order", Order("1", "bob", 5))
    (record,) = app.records("customer-total")
    assert (record.key, record.value["cents"], record.topic) == ("bob", 5, "customer-total")


def test_what_is_read_ahead_is_said_and_done_when_it_is_its_turn(shop: str) -> None:
    """All of these are read before the first one runs; the bad ones fail between the others, in their order."""
    with Bench(shop, partitions=1) as app:
        app.feed(
            "order", order(1), b"no json", order(2), order(1), order(3, cents=-1), {"order_id": 5}, order(1, cents=9)
        )
        app.feed("order", order(4, cents=1))
        app.settle()
        assert app.module.seen == ["1", "2", "4"]
        assert app.table("spent") == {"ann": 501}
        assert app.count("duplicates") == 1
        reasons = [letter.kind for letter in app.dead_letters("order")]
        assert len(reasons) == 4 and reasons[1] == "builtins.ValueError" and reasons[3] == "EventIdConflict"


def repeats_behind_commits(shop: str) -> list[str]:
    """What runs of two orders and their repeats, all read at once, when a commit comes after every event."""
    with Bench(shop, partitions=1, commit_events=1) as app:
        app.feed("order", order(1), order(2), order(2), order(1))
        app.settle()
        return list(app.module.seen)


def test_a_mark_that_was_committed_after_a_repeat_was_read_ahead_is_seen(
    shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert repeats_behind_commits(shop) == ["1", "2"]

    def unchanged(self: TablePartition) -> Any:
        changes = TablePartition.seal(self)
        self.version = 0
        return changes

    # Proof that it guards something: a store that never says that it has changed.
    plant_store(monkeypatch, seal=unchanged)
    assert repeats_behind_commits(shop) == ["1", "2", "2", "1"]


def test_event_times_go_into_the_field_and_append_times_follow_them(app: Bench) -> None:
    assert app.now.startswith("2026-01-01T00:00:00")
    app.feed("order", order(1), at="2026-03-01T12:00:00Z")
    (record,) = app.records("customer-total")
    assert record.value["at"] == "2026-03-01T12:00:00Z"
    assert not app.dead_letters("order"), "an event of March is not ahead of an append time in March"
    assert app.now.startswith("2026-03-01T12:00:00")


def test_time_that_passes_runs_timers_and_crontabs(app: Bench) -> None:
    app.advance(95)
    assert [record.key for record in app.records("tick")] == ["timer"] * 3
    app.advance(300)
    assert [record.key for record in app.records("tick")].count("timer") == 13
    assert [record.key for record in app.records("tick")].count("crontab") == 1


def test_a_repeat_is_counted_and_has_no_effect(app: Bench) -> None:
    app.feed("order", order(1), order(1))
    assert app.table("spent") == {"ann": 250}
    assert app.count("duplicates") == 1


def test_what_is_owed_after_a_commit_is_waited_for(app: Bench) -> None:
    app.feed("order", order(1, cents=7))
    assert app.outputs("tick") == [{"customer": "ann"}]


@pytest.mark.parametrize(
    "point", ["event.before_effects", "commit.before_produce", "commit.before_end", "commit.before_store"]
)
def test_a_crash_at_a_point_loses_and_doubles_nothing(app: Bench, point: str) -> None:
    app.feed("order", order(1))
    app.settle()
    app.crash_at(point)
    app.feed("order", order(2, cents=100))
    assert app.table("spent") == {"ann": 350}
    assert [output["cents"] for output in app.outputs("customer-total")] == [250, 350]
    assert app.starts == 2


def test_an_empty_disk_is_restored(app: Bench) -> None:
    app.feed("order", *(order(number) for number in range(20)))
    app.settle()
    app.restart(empty=True)
    assert app.on_disk("spent") == {b'"ann"': b"5000"}
    assert app.points.reached["restore.half_done"]


def test_a_worker_that_was_stopped_has_committed_everything(app: Bench) -> None:
    app.feed("order", order(1))
    app.stop()
    assert app.points.reached["shutdown.before_commit"] == 1
    assert app.table("spent") == {"ann": 250}
    assert app.starts == 2


def test_a_crash_takes_with_it_what_the_modules_kept_in_memory(app: Bench) -> None:
    app.feed("order", order(1))
    app.settle()
    first = app.module
    first.prices.cached.append("something")
    assert first.seen == ["1"]
    app.restart()
    assert app.module is not first
    assert app.module.seen == []
    assert app.module.prices.cached == []


def test_nothing_is_left_behind(shop: str) -> None:
    import prices  # type: ignore[import-not-found]
    import shop as mine  # type: ignore[import-not-found]

    handlers, environment, modules = dict(after_commit.handlers), dict(os.environ), set(sys.modules)
    for _ in range(2):
        with Bench(shop, partitions=1) as app:
            assert app.app is not mine.app
            assert app.app.settings.partitions == 1
            app.feed("order", order(1))
            assert app.table("spent") == {"ann": 250}
    assert sys.modules["shop"] is mine
    assert sys.modules["prices"] is prices
    assert mine.app.engine is None
    assert after_commit.handlers == handlers
    assert dict(os.environ) == environment
    assert {name for name in set(sys.modules) - modules if not name.startswith(("streamapp", "faust", "mode"))} == set()


def test_settings_of_the_developers_shell_do_not_reach_the_worker(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_PARTITIONS", "17")
    with Bench(shop) as app:
        assert app.app.settings.partitions == 4
    assert os.environ["STREAMAPP_PARTITIONS"] == "17"


def test_an_agent_is_put_to_and_answers_with_what_came_of_it(app: Bench) -> None:
    add_up = app.agent("add_up")
    assert [record.value["cents"] for record in add_up.put(order(1))] == [250]
    (letter,) = add_up.put(order(2, cents=-1))
    assert letter.topic == "order-dlt"
    with pytest.raises(ValueError, match=r"no one agent pay. The app has: .*add_up"):
        app.agent("pay")


def test_an_agent_that_does_not_return_is_named(app: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLED_WITHIN_S", 5.0)
    app.feed("order", order(1, cents=666))
    with pytest.raises(NotSettled, match=r"Not consumed: order\[\d\]. Running: agent shop.add_up at <Unit"):
        app.settle()


def test_what_cannot_be_done_exactly_once_is_refused_as_in_a_worker(shop: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(dedent(SHOP) + 'app.SetTable("names")\n')
    with Bench(shop) as app, pytest.raises(ConfigurationError, match="SetTable names is not possible"):
        app.settle()


def test_an_error_that_ends_the_worker_is_the_tests(shop: str, tmp_path: Path) -> None:
    loop = "    async for order in stream:\n"
    (tmp_path / "shop.py").write_text(dedent(SHOP).replace(loop, f"    1 / 0\n{loop}"))
    with Bench(shop) as app, pytest.raises(AgentEnded, match="add_up raised outside of an event: ZeroDivisionError"):
        app.settle()


def test_what_is_no_app_is_said(shop: str) -> None:
    with Bench("shop:spent") as app, pytest.raises(ConfigurationError, match=r"shop:spent is no streamapp.App"):
        app.settle()


def test_misuse_is_explained(app: Bench) -> None:
    with pytest.raises(ValueError, match=r"no topic oder. The app has: .*order"):
        app.feed("oder", order(1))
    with pytest.raises(ValueError, match="no crash point K99"):
        app.crash_at("K99")
    app.close()
    with pytest.raises(StreamAppError, match="closed"):
        app.settle()


async def test_an_async_test_is_told_to_be_a_plain_one(shop: str) -> None:
    bench = await asyncio.to_thread(Bench, shop)
    try:
        with pytest.raises(StreamAppError, match="plain function"):
            bench.settle()
    finally:
        await asyncio.to_thread(bench.close)


def test_the_services_own_agents_run_on_it_too() -> None:
    transfer = {
        "event_id": "1", "from_account": "@world", "to_account": "ann", "amount": 500, "currency": "EUR",
        "occurred_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    with Bench() as app:
        app.crash_at("commit.before_end")
        app.feed("transfer", transfer)
        app.feed("transfer", {**transfer, "event_id": "2", "from_account": "ann", "to_account": "bob", "amount": 501})
        app.settle()
        balances = app.table("balances")
        assert sum(account["balances"]["EUR"] for account in balances.values()) == 0
        assert [output["reason"] for output in app.outputs("transfer-rejected")] == ["insufficient_funds"] or balances[
            "ann"
        ]["balances"]["EUR"] == 500


def test_at_least_once_runs_on_it_too(shop: str) -> None:
    with Bench(shop, processing_guarantee="at_least_once") as app:
        app.feed("order", order(1), order(2))
        assert app.table("spent") == {"ann": 500}


def test_faust_own_contexts_work_beside_it(shop: str, app: Bench) -> None:
    async def in_a_context() -> Any:
        import shop as mine

        async with mine.add_up.test_context() as context:
            await context.put(mine.Order("1", "ann", 250), key="ann", wait=False)
            async with asyncio.timeout(10):
                while not mine.app.outputs:  # noqa: ASYNC110 - the agent yields nothing to wait for
                    await asyncio.sleep(0.01)
            return mine.app.outputs.of("customer-total")

    app.feed("order", order(1))
    assert app.table("spent") == {"ann": 250}
    app.close()
    assert [output["cents"] for output in asyncio.run(in_a_context())] == [250]


def test_every_point_of_the_code_is_described() -> None:
    root = Path(str(module.__file__)).parent.parent
    source = "".join(file.read_text() for file in root.rglob("*.py") if file.parent.name != "testing")
    assert set(re.findall(r'failpoint\("(K\w+)"\)', source)) <= POINTS.keys()


def test_a_large_feed_is_handled_at_once(app: Bench) -> None:
    app.feed("order", *(order(number, customer=f"c{number % 7}", cents=1) for number in range(1000)))
    assert sum(app.table("spent").values()) == 1000
    assert app.count("commits") < 100


def test_a_struct_of_the_tests_own_module_may_be_fed(app: Bench) -> None:
    class Order(msgspec.Struct):
        order_id: str
        customer: str
        cents: int

    app.feed("order", Order("1", "ann", 5), key="ann")
    assert app.table("spent") == {"ann": 5}


def test_a_record_whose_header_is_null_is_dead_lettered_like_any_other(app: Bench) -> None:
    app.feed("order", order(1, cents=-1), headers={"from": None})  # type: ignore[dict-item]
    (letter,) = app.dead_letters("order")
    assert letter.reason == "a negative price"


def test_what_a_timer_sent_is_given_up_when_the_broker_refuses_it_and_the_work_goes_on(app: Bench) -> None:
    app.feed("order", order(1))
    app.settle()
    for partition, log in app.broker.logs.items():  # somebody makes the topic smaller behind the worker's back
        if partition.topic == "tick":
            log.topic = log.topic._replace(max_message_bytes=10)
    app.advance(31)
    app.feed("order", order(2))
    assert app.table("spent") == {"ann": 500}
    assert app.records("tick") == []
    assert 2 <= app.count("aborts") <= 4


def test_a_table_of_another_number_of_partitions_is_refused_at_start(shop: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(dedent(SHOP).replace('Table("spent", ', 'Table("spent", partitions=3, '))
    with Bench(shop) as app, pytest.raises(ConfigurationError, match="spent was declared with partitions=3, and order"):
        app.settle()


WINDOWS = """
    from streamapp.windows import Sum

    by_minute = app.Table("by_minute").tumbling(60, grace=10, topic="order").aggregate(cents=Sum("cents"))

    @app.agent(orders)
    async def by_window(stream):
        async for order in stream:
            by_minute.add(order.customer, order)
"""


def test_event_time_moves_in_every_partition(shop: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(dedent(SHOP) + dedent(WINDOWS))
    with Bench(shop) as app:
        for number in range(8):
            app.feed("order", order(number, f"c{number}"), at="2026-03-01T09:00:10Z")
        windows = app.table("by_minute")
        assert [(w.value, w.final) for w in windows["c3"]] == [({"cents": 250}, False)]
        app.advance_event_time("order", "2026-03-01T09:05:00Z", like=order(0, cents=0))
        assert not {f"c{number}" for number in range(8)} & app.table("by_minute").keys(), "all are closed, none is kept"
        app.advance_event_time("order", "2026-03-01T09:06:00Z", like=order(0, cents=0))
        app.feed("order", order(9, "c3"), at="2026-03-01T09:00:11Z")
        assert len(app.records("order-late")) == 1


def test_each_rebalance_has_one_line_that_says_why(app: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="streamapp.engine.group")
    app.rebalance_at("event.before_effects")
    app.feed("order", *(order(number, f"c{number}") for number in range(20)))
    app.settle()
    reasons = [line.split(", because ")[1] for line in caplog.messages if line.startswith("generation ")]
    assert reasons == [
        "this worker joined the group",
        "a worker joined, or topics went",
        "a worker left, or topics came",
    ]


def test_a_restore_that_takes_long_says_how_far_it_is(
    app: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.feed("order", *(order(number, f"c{number}") for number in range(200)))
    app.settle()

    async def slowly(self: Any, record_limit: int) -> Any:
        await asyncio.sleep(3)
        return await fetch(self, 10)

    fetch = MemoryFetches.fetch
    monkeypatch.setattr(MemoryFetches, "fetch", slowly)
    caplog.set_level("INFO", logger="streamapp.engine.restore")
    app.restart(empty=True)
    progress = [line for line in caplog.messages if line.startswith("restoring: ")]
    assert len(progress) > 3
    assert re.fullmatch(r"restoring: [\d,]+ records, [\d,]+/s, at most [\d,]+ left", progress[0])
    assert len(app.table("spent")) == 200


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize(
    ("policy", "settings", "commits"),
    [
        ("record", {"commit_events": 1}, range(12, 14)),
        ("time", {}, range(1, 3)),
        ("count", {"commit_events": 4, "commit_interval": 3}, range(3, 5)),
        ("count or time", {"commit_events": 5, "commit_interval": 0.1}, range(3, 5)),
    ],
)
def test_commit_policies_mean_the_same_under_both_guarantees(
    shop: str, guarantee: str, policy: str, settings: dict[str, Any], commits: range
) -> None:
    with Bench(shop, processing_guarantee=guarantee, partitions=1, **settings) as app:
        app.feed("order", *(order(number) for number in range(12)))
        assert app.table("spent") == {"ann": 3000}
        assert app.count("commits") in commits, policy


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_a_worker_writes_is_compressed_as_the_settings_say(shop: str, compression: str) -> None:
    with Bench(shop, compression=compression) as app:
        app.feed("order", *(order(number) for number in range(60)))
        assert app.outputs("customer-total")[0]["cents"] == 250
        written = [b for at, log in app.broker.logs.items() if at.topic == "customer-total" for b in log.batches]
    codecs = [int.from_bytes(batch.payload[21:23]) & 7 for batch in written if batch.payload]
    wanted = ["none", "gzip", "snappy", "lz4", "zstd"].index(compression)
    assert wanted in codecs
    assert {wanted, 0}.issuperset(codecs), "what would not become smaller stays as it is"
