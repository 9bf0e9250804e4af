"""The service's agents and the auditor, written apart, must agree on what payments and clicks lead to.

The agents run in test contexts, as one task that has every partition; what they sent is the history that is judged.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.clicks.agent import charge_clicks
from agents.deliveries.agent import start_deliveries
from agents.payments.agent import decide_payments
from streamapp.app import app
from streamapp.audit.judge import Judge
from streamapp.audit.report import Report, Verdict
from streamapp.audit.terms import Rules, Terms
from streamapp.records import AdClick, Payment
from tables.ad_spend import ad_spend
from tables.payment_totals import payment_totals

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from histories import TOPICS, Log

ELEVEN = 1_767_265_200  # 2026-01-01T11:00:00Z, an hour before the records are appended


@pytest.fixture(autouse=True)
def nothing_of_the_last_test() -> Iterator[None]:
    app.forget_tests()
    yield
    app.forget_tests()


def time(rng: random.Random, number: int) -> str:
    """Some seconds after the last one, now and then minutes before it."""
    second = number * 9 - (rng.randint(0, 400) if rng.random() < 0.2 else rng.randint(0, 9))
    return datetime.fromtimestamp(ELEVEN + max(0, second), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def payments(rng: random.Random, count: int) -> Iterator[Payment]:
    for number in range(count):
        yield Payment(
            event_id=f"p-{number}",
            occurred_at=time(rng, number),
            event_type="PAYMENT_REQUESTED",
            order_id=f"o-{rng.randrange(count // 4)}",
            customer_id=rng.choice(["ann", "bob"]),
            merchant_id=rng.choice(["shop", "stall", "émile|x"]),
            amount=rng.choice([0, -1, app.settings.payment_limit + 1, 1, 500, app.settings.payment_limit]),
            currency=rng.choice(["EUR", "USD"]),
        )


def clicks(rng: random.Random, count: int) -> Iterator[AdClick]:
    for number in range(count):
        yield AdClick(
            event_id=f"c-{number}",
            occurred_at=time(rng, number),
            ad_id=f"ad-{rng.randrange(5)}",
            advertiser_id=rng.choice(["adv", "brand", "a|b"]),
            publisher_id=rng.choice(["pub", "blog"]),
            cpc=rng.randint(1, 99),
        )


def with_repeats(rng: random.Random, records: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for record in records:
        found.append(record)
        if rng.random() < 0.1:
            found.append(rng.choice(found))
    return found


async def history(agent: Any, topic: str, records: list[Any], log: Log) -> None:
    """Put the records through an agent, and everything it sends into the log."""
    sent = len(app.outputs or ())
    async with asyncio.timeout(30), agent.test_context() as context:
        for record in records:
            log.append(topic, key_of(record), msgspec.json.encode(record))
            await context.put(record, key=key_of(record))
    keep(log, topic, sent)


def keep(log: Log, source: str, sent: int) -> None:
    for it in app.outputs[sent:]:
        if it.topic == TOPICS.delivery and source == TOPICS.payment:
            continue  # put there with the deliveries' own turn
        headers = (("late-windows", b"some"),) if it.topic.endswith("-late") else ()
        log.append(it.topic, it.key, msgspec.json.encode(it.value), headers=headers)


def key_of(record: Any) -> str:
    return str(getattr(record, record.KEY))


def judged(log: Log, *, idle: bool = False) -> Report:
    settings = app.settings
    rules = Rules(
        payment_limit=settings.payment_limit,
        window_us=int(settings.window_size * 1e6),
        grace_us=int(settings.window_grace * 1e6),
        closes_idle=idle,
    )
    judge = Judge(Terms(dict.fromkeys(TOPICS.all, log.count), rules=rules))
    judge.read(log.records())
    return judge.judgement()


@pytest.mark.parametrize("seed", range(6))
async def test_they_agree_on_payments_and_deliveries(seed: int) -> None:
    rng, log = random.Random(seed), Log(count=1)
    await history(decide_payments, TOPICS.payment, with_repeats(rng, payments(rng, 80)), log)
    await history(start_deliveries, TOPICS.delivery, app.outputs.of("delivery"), log)
    report = judged(log)
    assert report.verdict is Verdict.PASS, report.as_json()
    assert set(report.payments.declined) == {"amount_not_positive", "over_limit", "already_paid"}
    assert report.payments.started == report.payments.completed > 10
    assert report.totals_by_window.final > 3
    assert report.totals_by_window.late > 0
    sent = len(app.outputs)
    payment_totals.silence()
    keep(log, TOPICS.payment, sent)
    closed = judged(log, idle=True)
    assert (closed.verdict, closed.totals_by_window.open) == (Verdict.PASS, 0), closed.as_json()


@pytest.mark.parametrize("seed", range(6))
async def test_they_agree_on_clicks(seed: int) -> None:
    rng, log = random.Random(seed), Log(count=1)
    await history(charge_clicks, TOPICS.click, with_repeats(rng, clicks(rng, 120)), log)
    report = judged(log)
    assert report.verdict is Verdict.PASS, report.as_json()
    assert (report.clicks.clicks, report.clicks.duplicates > 0) == (120, True)
    assert report.spend_by_window.final > 10
    assert report.spend_by_window.late > 0
    sent = len(app.outputs)
    ad_spend.silence()
    keep(log, TOPICS.click, sent)
    closed = judged(log, idle=True)
    assert (closed.verdict, closed.spend_by_window.open) == (Verdict.PASS, 0), closed.as_json()
