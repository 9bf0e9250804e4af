"""While a commit is in flight events go on, and nothing of what they do gets anywhere before it is settled."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from streamapp.engine.committer import Committer
from streamapp.engine.engine import Engine
from streamapp.eos.producer import Producer
from streamapp.errors import StoreError, TransactionAborted
from streamapp.settings import Settings
from streamapp.state import TablePartition
from streamapp.state.memory import MemoryStorage
from streamapp.testing import Bench
from streamapp.testing.cluster import MemoryCluster
from streamapp.testing.environment import MemoryEnvironment
from streamapp.types import Partition

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from planted_store import plant_store

SHOP = """
    import asyncio
    from typing import ClassVar
    import msgspec
    from streamapp import App, after_commit, inbox

    class Order(msgspec.Struct, frozen=True):
        KEY: ClassVar[str] = "customer"
        event_id: str
        customer: str
        pause: float = 0.0
        size: int = 0
        commit: bool = False

    app = App("shop")
    totals, told, ticks = app.topic("total"), app.topic("told"), app.topic("tick")
    spent = app.Table("spent", default=int)
    began, told_of, tick_now = [], [], asyncio.Event()

    @after_commit.handler(name="tell")
    async def tell(payload, intent_id):
        told_of.append(payload)

    @app.agent(app.topic("order", value_type=Order))
    @inbox(aggregate_type="ORDER", event_type="ORDER_ADD")
    async def add_up(stream):
        async for event in stream.events():
            order = event.value
            began.append(order.event_id)
            spent[order.customer] += 1
            await asyncio.sleep(order.pause)
            await totals.send(key=order.customer, value=[order.event_id, sorted(spent.items()), "x" * order.size])
            after_commit("tell", order.event_id)
            if order.commit:
                event.request_commit()
"""
WITHIN_S = 30.0


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    (tmp_path / "flying_shop.py").write_text(dedent(SHOP))
    monkeypatch.syspath_prepend(tmp_path)
    benches: list[Bench] = []

    def begin(**settings: Any) -> Bench:
        benches.append(Bench("flying_shop", **settings))
        benches[0].feed("order", order("e0"))
        benches[0].settle()
        return benches[0]

    yield begin
    for bench in benches:
        bench.close(quietly=True)
    sys.modules.pop("flying_shop", None)


def order(name: str, customer: str = "ann", **more: Any) -> dict[str, Any]:
    return {"event_id": name, "customer": customer, **more}


class Calls:
    """The calls of commits in their order; `held` is the one that waits until it is let go."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.held: str | None = None
        self.waiting = False
        for name in ("produce", "commit_offsets", "end_transaction"):
            patch.setattr(MemoryCluster, name, self._watched(name, getattr(MemoryCluster, name)))
        settle = Committer._settle

        def settled(committer: Committer, *args: Any) -> None:
            settle(committer, *args)
            self.made.append("settled")

        patch.setattr(Committer, "_settle", settled)

    def _watched(self, name: str, call: Callable[..., Awaitable[Any]]) -> Any:
        async def watched(cluster: MemoryCluster, *args: Any) -> Any:
            if self.made[-1:] != [name]:  # one a node
                self.made.append(name)
            while self.held == name:
                self.waiting = True
                await asyncio.sleep(0.01)
            self.waiting = False
            return await call(cluster, *args)

        return watched


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not is_so():  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.001)


def in_flight(bench: Bench, calls: Calls, *orders: dict[str, Any], at: str = "end_transaction") -> Engine:
    """Let these finish, and hold their commit at a call."""

    async def scenario() -> None:
        calls.made.clear()
        calls.held = at
        await bench._feed("order", orders, None, None, None, None)
        await until(lambda: calls.waiting)

    bench._run(scenario())
    engine = bench.app.engine if bench._worker.app is not None else None
    assert engine is not None
    return engine


def go_on(bench: Bench, is_so: Callable[[], bool], *orders: dict[str, Any]) -> None:
    async def scenario() -> None:
        await bench._feed("order", orders, None, None, None, None)
        await until(is_so)

    bench._run(scenario())


def engine_of(bench: Bench) -> Engine:
    assert bench._worker.engine is not None
    return bench._worker.engine


def shown(bench: Bench) -> dict[bytes, bytes]:
    """What readers outside see."""
    stores = [task.stores["spent"] for task in engine_of(bench).tasks if "spent" in task.stores]
    return dict(row for store in stores for row in store.committed.items())


def totals(bench: Bench) -> list[tuple[str, int]]:
    return [(record.value[0], dict(record.value[1])[record.key]) for record in bench.records("total")]


def test_the_member_knows_how_soon_a_commit_is_due(shop: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its fetches are spaced by it."""
    told: list[Callable[[], float]] = []
    member = MemoryEnvironment.member

    def noted(environment: MemoryEnvironment, due_in_s: Callable[[], float]) -> Any:
        told.append(due_in_s)
        return member(environment, due_in_s)

    monkeypatch.setattr(MemoryEnvironment, "member", noted)
    bench = shop()

    def due_in_s() -> float:
        async def asked() -> float:
            return told[0]()

        return bench._run(asked())

    assert due_in_s() == math.inf, "all is committed"
    engine = in_flight(bench, calls, order("e1"))
    assert due_in_s() == math.inf, "what is in flight is not what is due"
    go_on(bench, lambda: engine.committer.schedule.finished == 1, order("e2"))
    assert 0 < due_in_s() <= Settings().commit_interval
    bench.advance(3.0)
    assert due_in_s() < 0, "it waits for the one in flight"


def test_events_go_on_and_reach_nobody_before_it_is_settled(shop: Any, calls: Calls) -> None:
    bench = shop()
    engine = in_flight(bench, calls, order("e1"))
    committed = dict(engine.committed)
    go_on(bench, lambda: engine.committer.schedule.finished == 2, order("e2"), order("e3"))
    bench.advance(3.0)
    assert calls.made == ["produce", "commit_offsets", "end_transaction"], "the next one has begun"
    assert engine.gate.is_open and engine.dirty
    assert shown(bench) == {b'"ann"': b"1"} and engine.committed == committed
    assert bench._worker.module.told_of == ["e0"]
    calls.held = None
    assert totals(bench) == [("e0", 1), ("e1", 2), ("e2", 3), ("e3", 4)]
    assert calls.made[3:7] == ["settled", "produce", "commit_offsets", "end_transaction"]
    assert bench.module.told_of == ["e0", "e1", "e2", "e3"]
    assert bench.count("aborts") == 0


def test_few_records_wait_for_the_commit_in_flight_and_more_do_not(shop: Any, calls: Calls) -> None:
    """Few: an eighth of what it is of. They compete with it for the processors, and gain nothing by it."""
    bench = shop()
    engine = in_flight(bench, calls, *(order(f"e{number}") for number in range(1, 17)))
    go_on(bench, lambda: sum(map(len, engine.tasks)) == 2, order("e17"), order("e18"))
    bench.advance(1.0)
    assert not engine.gate.is_open and bench.module.began[-1] == "e16"
    go_on(bench, lambda: engine.committer.schedule.finished == 3, order("e19"))
    assert engine.gate.is_open and calls.made[-1] == "end_transaction"
    calls.held = None
    assert totals(bench) == [(f"e{number}", number + 1) for number in range(20)]


def test_what_was_held_back_starts_when_it_is_settled(shop: Any, calls: Calls) -> None:
    bench = shop()
    engine = in_flight(bench, calls, *(order(f"e{number}") for number in range(1, 17)))
    go_on(bench, lambda: sum(map(len, engine.tasks)) == 1, order("e17"))
    calls.held = None
    go_on(bench, lambda: bench.module.began[-1] == "e17")
    assert "settled" in calls.made
    assert totals(bench)[-1] == ("e17", 18)


def test_what_was_held_back_by_an_aborted_commit_runs_after_its_events(
    shop: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = shop()
    whole, refused = Producer.end, list[str]()

    async def refuse_once(self: Producer) -> None:
        if not refused:
            refused.append("end")
            await until(lambda: not calls.held)
            raise TransactionAborted("as a test wants it")
        await whole(self)

    monkeypatch.setattr(Producer, "end", refuse_once)

    async def scenario() -> None:
        calls.held = "nothing"
        await bench._feed("order", [order(f"e{number}") for number in range(1, 17)], None, None, None, None)
        await until(lambda: bool(refused))
        await bench._feed("order", [order("e17")], None, None, None, None)
        engine = engine_of(bench)
        await until(lambda: sum(map(len, engine.tasks)) == 1)
        assert not engine.gate.is_open
        calls.held = None

    bench._run(scenario())
    assert totals(bench) == [(f"e{number}", number + 1) for number in range(18)]
    assert bench.count("aborts") == 1 and bench.count("duplicates") == 0


def test_what_is_due_meanwhile_waits_and_closes_the_gate_only_when_it_is_full(shop: Any, calls: Calls) -> None:
    bench = shop(commit_events="3")
    engine = in_flight(bench, calls, order("e1"))
    go_on(bench, lambda: engine.committer.schedule.finished == 1, order("e2"))
    bench.advance(1.0)
    assert engine.committer.due.is_set() and engine.gate.is_open
    go_on(bench, lambda: engine.committer.schedule.finished == 3, order("e3"), order("e4"), order("e5"), order("e6"))
    assert not engine.gate.is_open and engine.committer.schedule.finished == 3
    calls.held = None
    assert totals(bench) == [(f"e{number}", number + 1) for number in range(7)]


def test_an_event_that_asks_for_a_commit_is_the_last_one_of_it(shop: Any, calls: Calls) -> None:
    bench = shop()
    engine = in_flight(bench, calls, order("e1"))
    go_on(bench, lambda: engine.committer.schedule.finished == 2, order("e2"), order("e3", commit=True), order("e4"))
    bench.advance(1.0)
    assert engine.committer.schedule.finished == 2 and not engine.gate.is_open
    calls.held = None
    assert totals(bench)[-1] == ("e4", 5)


@pytest.mark.parametrize("at", ["produce", "bind", "end"])
def test_an_abort_takes_the_next_one_with_it(shop: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """One event of it has finished and one is in the middle: both run again, on what is committed."""
    bench = shop()
    whole = getattr(Producer, at)
    refused: list[str] = []

    async def refuse_once(self: Producer, *args: Any) -> Any:
        result = await whole(self, *args) if at != "end" else None
        if not refused:
            refused.append(at)
            await until(lambda: not calls.held)
            raise TransactionAborted("as a test wants it")
        return result if at != "end" else await whole(self, *args)

    monkeypatch.setattr(Producer, at, refuse_once)

    async def scenario() -> None:
        calls.held = "nothing"
        await bench._feed("order", [order("e1")], None, None, None, None)
        await until(lambda: bool(refused))
        await bench._feed("order", [order("e2"), order("e3", pause=5.0)], None, None, None, None)
        engine = engine_of(bench)
        await until(lambda: engine.committer.schedule.finished == 1 and engine.gate.running == 1)
        calls.held = None

    bench._run(scenario())
    assert totals(bench) == [("e0", 1), ("e1", 2), ("e2", 3), ("e3", 4)]
    assert bench.module.began == ["e0", "e1", "e2", "e3", "e1", "e2", "e3"]
    assert bench.module.told_of == ["e0", "e1", "e2", "e3"]
    assert bench.count("aborts") == 1 and bench.count("duplicates") == 0


def test_a_refused_record_is_found_though_the_next_one_has_begun(
    shop: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay goes as far as the refused transaction, one event at a time, and dead-letters the one at fault."""

    async def learns_nothing(self: Producer, topic: str) -> None: ...

    monkeypatch.setattr(Producer, "refresh", learns_nothing)
    bench = shop(compression="none")
    engine = in_flight(bench, calls, order("e1"), order("bad", size=600_000), order("e2"), at="produce")
    for partition, log in bench.broker.logs.items():
        if partition.topic == "total":
            log.topic = log.topic._replace(max_message_bytes=400_000)
    go_on(bench, lambda: engine.committer.schedule.finished == 2, order("e3"), order("e4"))
    calls.held = None
    assert [name for name, _ in totals(bench)] == ["e0", "e1", "e2", "e3", "e4"]
    (letter,) = bench.dead_letters("order")
    assert letter.value["event_id"] == "bad" and letter.kind == "OutputRefused"
    assert bench.table("spent") == {"ann": 5}
    assert not engine.gate.single


def test_a_drain_and_a_revocation_wait_for_it_and_commit_the_next_one(shop: Any, calls: Calls) -> None:
    bench = shop()
    for leave in (bench.stop, lambda: bench._visits.begin() or bench.settle()):
        number = len(totals(bench))
        engine = in_flight(bench, calls, order(f"e{number}"))
        go_on(bench, lambda engine=engine: engine.committer.schedule.finished == 1, order(f"e{number + 1}"))
        bench._loop.call_outside(0.5, lambda: setattr(calls, "held", None))
        leave()
        assert totals(bench) == [(f"e{n}", n + 1) for n in range(number + 2)]
        assert len(bench.module.began) == len(set(bench.module.began)), "something ran again"
    assert bench.count("aborts") == 0 and bench.count("duplicates") == 0


@pytest.mark.parametrize("next_one", ["half done", "not begun"])
@pytest.mark.parametrize("at", ["produce", "end_transaction"])
def test_a_commit_that_was_asked_for_may_be_cancelled(shop: Any, calls: Calls, at: str, next_one: str) -> None:
    """Before the commit point it is aborted, behind it settled; either way all goes on, whatever comes after it."""
    bench = shop(commit_interval="3", transaction_timeout="9")

    async def scenario() -> None:
        engine = engine_of(bench)
        app = bench._worker.app
        assert app is not None
        calls.held = at
        await bench._feed("order", [order("e1")], None, None, None, None)
        await until(lambda: engine.committer.schedule.finished == 1)
        asked = bench._worker._process.spawn(app.commit())  # type: ignore[union-attr]
        await until(lambda: calls.waiting)
        if next_one == "half done":
            await bench._feed("order", [order("e2")], None, None, None, None)
            await until(lambda: engine.committer.schedule.finished == 1)
        asked.cancel()
        bench._loop.call_outside(0.2, lambda: setattr(calls, "held", None))
        await asyncio.wait([asked])
        assert asked.cancelled()

    bench._run(scenario())
    assert totals(bench) == [("e0", 1), ("e1", 2), ("e2", 3)][: 3 if next_one == "half done" else 2]
    assert bench.count("duplicates") == 0


def test_a_disk_that_refuses_what_is_committed_ends_the_worker(
    shop: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the commit was asked for: nothing runs again upon what is committed; the next start goes on."""
    bench = shop()
    engine = in_flight(bench, calls, order("e1"))
    go_on(bench, lambda: engine.committer.schedule.finished == 1, order("e2"))

    def full(self: MemoryStorage, changes: Any, checkpoint: Any) -> None:
        raise StoreError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStorage, "write", full)
        calls.held = None
        with pytest.raises(StoreError, match="full"):
            bench.settle()
    assert totals(bench) == [("e0", 1), ("e1", 2), ("e2", 3)]
    assert bench.module.began == ["e2"], "what was committed ran again"


def test_append_time_is_that_of_what_is_committed(shop: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the next one has brought lets nothing go: a crash would do it again without what it saw."""
    told: list[int] = []
    advance = TablePartition.advance

    def watched(self: TablePartition, newest_s: int, oldest_s: int | None = None) -> None:
        if "inbox" in self.name:
            told.append(newest_s)
        advance(self, newest_s, oldest_s)

    plant_store(monkeypatch, advance=watched)
    bench = shop()
    engine = in_flight(bench, calls, order("e1"))
    known = max(task.append_time(lambda _: True) or (0, 0) for task in engine.tasks)[0]
    bench.broker.append_ahead_s += 30 * 86_400
    go_on(bench, lambda: engine.committer.schedule.finished == 1, order("e2"))
    told.clear()
    calls.held, calls.waiting = "commit_offsets", False
    bench._run(until(lambda: calls.waiting))
    assert told and max(told) == known
    calls.held = None
    assert totals(bench)[-1] == ("e2", 3)
    assert max(told) >= known + 30 * 86_400


def test_partitions_that_are_lost_take_both_with_them(shop: Any, calls: Calls) -> None:
    """The seat is gone while one is in flight: it is refused by the broker, and the next one with it."""
    bench = shop()
    engine = in_flight(bench, calls, order("e1"), at="commit_offsets")
    go_on(bench, lambda: engine.committer.schedule.finished == 1, order("e2"))
    group = bench.broker.group(bench._worker.app.settings.id)  # type: ignore[union-attr]
    group.generation += 1
    calls.held = None
    bench._run(until(lambda: not engine.tasks))
    assert engine.producer.filling.byte_count == 0 and not engine.dirty
    assert Partition("order", 0) not in engine.committed


def test_a_commit_that_is_cancelled_while_it_waits_for_an_event_leaves_it_due(shop: Any, calls: Calls) -> None:
    """Nobody else would ask for it: the gate is closed, and without a commit nothing opens it again."""
    bench = shop(commit_interval="3", transaction_timeout="9")

    async def scenario() -> None:
        engine = engine_of(bench)
        app = bench._worker.app
        assert app is not None
        await bench._feed(
            "order", [order("e1"), order("e2", customer="bob"), order("e3", pause=0.5)], None, None, None, None
        )
        await until(lambda: engine.committer.schedule.finished >= 2 and engine.gate.running == 1)
        asked = bench._worker._process.spawn(app.commit())  # type: ignore[union-attr]
        await until(lambda: not engine.gate.is_open)
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled() and engine.gate.running == 1
        await until(lambda: not engine.gate.running)
        await bench._feed("order", [order("e4")], None, None, None, None)
        await until(lambda: not engine.dirty and bench.module.began[-1] == "e4")

    bench._run(scenario())
    assert bench.table("spent") == {"ann": 4, "bob": 1}
    assert bench.count("aborts") == 0 and bench.count("duplicates") == 0


class Ended(Exception):
    """Why a worker ends, in a test."""


@pytest.mark.parametrize("at", ["the barrier", "commit_offsets", "end_transaction"])
def test_a_worker_that_ends_beside_a_commit_neither_loses_nor_repeats(
    shop: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """What was given up is not committed, and its rows are not taken for stored: the next start goes on from Kafka."""
    bench = shop()

    async def scenario() -> None:
        engine = engine_of(bench)
        if at == "the barrier":
            await bench._feed("order", [order("e1"), order("e2", pause=0.5)], None, None, None, None)
            await until(lambda: engine.committer.schedule.finished == 1 and engine.gate.running == 1)
            engine.request_commit()
            await until(lambda: not engine.committer.due.is_set())
        else:
            calls.held = at
            await bench._feed("order", [order("e1")], None, None, None, None)
            await until(lambda: calls.waiting)
        engine.end(Ended("as a test wants it"))
        calls.held = None

    with pytest.raises(Ended):
        bench._run(scenario())
        bench.settle()
    bench.settle()
    expected = [("e0", 1), ("e1", 2), ("e2", 3)][: 3 if at == "the barrier" else 2]
    assert totals(bench) == expected
    assert bench.table("spent") == {"ann": len(expected)} and shown(bench) == {b'"ann"': b"%d" % len(expected)}
