"""The whole driver on the broker in memory under a seed: commits are slow and fail, events go on while they do.

What may not happen to anybody: an event lost or done twice, a row read that is not there, a timer's run twice or in
part, a handler for what is not committed. The oracle is this page's own arithmetic.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from streamapp.eos.protocol import Code
from streamapp.testing import Bench, environment, readings
from streamapp.testing.faults import Fate, Rates, SeededFaults

MODULE = "pipelined_shop"
KEYS = 5
#: Runs of the timer; without an end there would always be something to commit.
TICKS = 40
APP = """
    import asyncio
    import os
    import random
    from typing import ClassVar
    import msgspec
    from streamapp import App, after_commit, inbox

    class Order(msgspec.Struct, frozen=True):
        KEY: ClassVar[str] = "customer"
        event_id: str
        customer: str
        pause: float

    app = App("shop")
    totals, told, ticks = app.topic("total"), app.topic("told"), app.topic("tick")
    spent = app.Table("spent", default=int)
    latest = app.Table("latest")

    @after_commit.handler(name="tell")
    async def tell(payload, intent_id):
        await told.send(key=payload, value=payload)

    @app.agent(app.topic("order", value_type=Order), concurrency=int(os.environ["SHOP_LANES"]))
    @inbox(aggregate_type="ORDER", event_type="ORDER_ADD")
    async def add_up(stream):
        async for order in stream:
            spent[order.customer] += 1
            latest.pop(order.customer, None)
            await asyncio.sleep(order.pause)
            latest[order.customer] = order.event_id
            seen = dict(latest.items())
            assert seen[order.customer] == order.event_id
            assert all(latest.get(f"c{key}") == seen.get(f"c{key}") for key in range(KEYS))
            await totals.send(key=order.customer, value=[order.event_id, spent[order.customer]])
            after_commit(tell, order.event_id)

    ran = 0

    @app.timer(interval=0.07)
    async def tick():
        global ran
        if ran >= TICKS:
            return
        number, ran = ran, ran + 1
        await ticks.send(key="tick", value=number)
        await asyncio.sleep(0.01)
        await ticks.send(key="tock", value=number)
"""
#: Every call takes so long that events finish meanwhile; some get no answer, and the transaction's time runs out.
RATES = Rates(lose_request=0.04, lose_answer=0.04, refuse=0.06, latency_s=0.12, patience_s=2.0)
#: Where a process dies, or another member joins.
DIES_AT = (
    "commit.before_changelog",
    "commit.before_produce",
    "commit.before_offsets",
    "commit.before_end",
    "commit.before_store",
    "commit.after_store",
)
JOINS_AT = ("commit.before_produce", "commit.before_offsets", "commit.before_end", "commit.after_store")


def plant(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """Put the app where benches find it."""
    (directory / f"{MODULE}.py").write_text(dedent(APP.replace("TICKS", str(TICKS)).replace("KEYS", str(KEYS))))
    patch.syspath_prepend(directory)


class AbortingFaults(SeededFaults):
    """Also refuses transactions: now and then for good, and once a run for what is in it."""

    _content = 1

    def fate(self, call: str) -> Fate:
        fate = super().fate(call)
        if self.healed or call not in ("produce", "commit_offsets") or self._random.random() > 0.25:
            return fate
        code = Code.TRANSACTION_ABORTABLE
        if call == "produce" and self._content and self._random.random() < 0.3:
            self._content, code = 0, Code.MESSAGE_TOO_LARGE
        self.counts[f"{call}: {code.name}"] += 1
        return Fate((self._random.random() * RATES.latency_s,), RATES.latency_s, RATES.patience_s, code)


def _given_to_every_process(seed: int, patch: pytest.MonkeyPatch) -> AbortingFaults:
    faults, begin = AbortingFaults(random.Random(seed), RATES), environment.MemoryEnvironment.__init__

    def faulty(self: Any, broker: Any, settings: Any, state: Any) -> None:
        begin(self, broker, settings, state, faults)

    patch.setattr(environment.MemoryEnvironment, "__init__", faulty)
    return faults


def run(seed: int, patch: pytest.MonkeyPatch) -> Counter[str]:
    """One seed to its end; what happened. `AssertionError` for what may not."""
    generator = random.Random(seed)
    with patch.context() as inner:
        faults = _given_to_every_process(seed, inner)
        inner.setenv("SHOP_LANES", str(1 + seed % 2))
        limits = {"commit_events": "5"} if generator.random() < 0.3 else {}
        with Bench(MODULE, seed=seed, transaction_timeout="9", **limits) as app:
            happened = _work(app, generator)
            faults.heal()
            _check(app, happened)
            happened.update(faults.counts)
            return happened


def _work(app: Bench, generator: random.Random) -> Counter[str]:
    happened: Counter[str] = Counter()
    for _ in range(generator.choice((0, 1))):
        app.points.call_at(generator.choice(JOINS_AT), generator.randrange(1, 6), app._visits.begin)
        happened["rebalances"] += 1
    for _ in range(generator.choice((0, 0, 1))):
        app.crash_at(generator.choice(DIES_AT), generator.randrange(1, 6))
        happened["crashes"] += 1
    orders: list[dict[str, Any]] = []
    for _ in range(generator.randrange(6, 16)):
        for _ in range(generator.randrange(1, 5)):
            number = len(orders)
            orders.append({"event_id": f"e{number}", "customer": f"c{number % KEYS}", "pause": _pause(generator)})
            app.feed("order", orders[-1], *([generator.choice(orders[-8:])] if generator.random() < 0.4 else []))
        app.advance(generator.random() * 0.3)
    happened["orders"] = len(orders)
    return happened


def _pause(generator: random.Random) -> float:
    return generator.choice((0.0, 0.0, 0.0, 0.02, 0.3))


def _check(app: Bench, happened: Counter[str]) -> None:
    orders = [f"e{number}" for number in range(happened["orders"])]
    expected = {f"c{key}": [[name, at + 1] for at, name in enumerate(orders[key::KEYS])] for key in range(KEYS)}
    seen: dict[str, list[Any]] = {key: [] for key in expected}
    for record in app.records("total"):
        seen[record.key].append(record.value)
    assert seen == expected
    assert app.table("spent") == {key: len(rows) for key, rows in expected.items() if rows}
    assert app.table("latest") == {key: rows[-1][0] for key, rows in expected.items() if rows}
    for table in ("spent", "latest", "inbox", "after-commit"):
        assert app.on_disk(table) == _raw(app, table)
    told = Counter(app.outputs("told"))
    assert set(told) == set(orders), "a handler did not run, or ran for what is not committed"
    if not happened["crashes"]:
        ticks: dict[str, list[int]] = {"tick": [], "tock": []}
        for record in app.records("tick"):
            ticks[record.key].append(record.value)
        for numbers in ticks.values():
            assert sorted(numbers) == list(range(TICKS)), f"a run of the timer was lost or doubled: {sorted(numbers)}"
    happened.update({name: app.count(name) for name in ("commits", "aborts", "duplicates")})


def _raw(app: Bench, name: str) -> dict[bytes, bytes]:
    """A table as its changelog has it."""
    table: Any = app.app.tables[name]
    return readings.fold(app.broker, table.changelog_topic_name)
