"""The agents of payments, deliveries and clicks in Faust's test contexts: no broker, tables and inbox in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from agents.clicks.agent import charge_clicks
from agents.clicks.rules import charge_of, revenue_of
from agents.deliveries.agent import start_deliveries
from agents.payments.agent import decide_payments
from agents.payments.rules import delivery_of
from streamapp.app import app
from streamapp.errors import RecordError
from streamapp.records import AdClick, Payment
from tables.payments import payments

TIME = "2026-01-31T12:00:00Z"


@pytest.fixture(autouse=True)
def nothing_of_the_last_test() -> Iterator[None]:
    app.forget_tests()
    yield
    app.forget_tests()


def payment(event_id: str = "p-1", order: str = "o-1", merchant: str = "shop", amount: int = 500) -> Payment:
    return Payment(
        event_id=event_id,
        occurred_at=TIME,
        event_type="PAYMENT_REQUESTED",
        order_id=order,
        customer_id="ann",
        merchant_id=merchant,
        amount=amount,
        currency="EUR",
    )


def click(event_id: str = "c-1", cpc: int = 7) -> AdClick:
    return AdClick(event_id=event_id, occurred_at=TIME, ad_id="ad", advertiser_id="adv", publisher_id="pub", cpc=cpc)


async def decided(*wishes: Payment) -> list[tuple[str, str | None]]:
    """Each payment's event type and reason, in order; repeats have none."""
    async with asyncio.timeout(10), decide_payments.test_context() as context:
        for wish in wishes:
            await context.put(wish, key=wish.merchant_id)
    return [(result.event_type, result.reason) for result in app.outputs.of("payment-result")]


async def test_a_completed_payment_is_one_result_one_delivery_and_one_row() -> None:
    assert await decided(payment()) == [("PAYMENT_COMPLETED", None)]
    assert [(sent.topic, sent.key) for sent in app.outputs] == [
        ("payment-result", "o-1"),
        ("payment-totals", "shop|2026-01-31T12:00:00Z"),
        ("delivery", "o-1"),
    ]
    assert app.outputs.of("delivery") == [delivery_of(payment())]
    assert payments["shop|o-1"].event_id == "p-1"


async def test_a_declined_payment_starts_nothing_and_leaves_the_order_open() -> None:
    wishes = payment("p-1", amount=0), payment("p-2", amount=app.settings.payment_limit + 1), payment("p-3")
    assert await decided(*wishes) == [
        ("PAYMENT_DECLINED", "amount_not_positive"),
        ("PAYMENT_DECLINED", "over_limit"),
        ("PAYMENT_COMPLETED", None),
    ]
    assert [delivery.event_id for delivery in app.outputs.of("delivery")] == ["p-3:delivery"]


async def test_an_order_is_paid_once_at_a_merchant_and_again_at_another() -> None:
    reasons = [reason for _, reason in await decided(payment("p-1"), payment("p-2"), payment("p-3", merchant="other"))]
    assert reasons == [None, "already_paid", None]


async def test_names_with_a_separator_in_them_are_not_taken_for_each_other() -> None:
    wishes = payment("p-1", order="c", merchant="a|b"), payment("p-2", order="b|c", merchant="a")
    assert [reason for _, reason in await decided(*wishes)] == [None, None]


async def test_a_repeat_is_no_second_payment_and_a_conflict_is_refused() -> None:
    assert await decided(payment(), payment()) == [("PAYMENT_COMPLETED", None)]
    async with decide_payments.test_context() as context:
        with pytest.raises(RecordError, match="p-1"):
            await context.put(payment(amount=501), key="shop")


async def test_completed_payments_add_up_in_windows_and_declined_ones_only_move_the_watermark() -> None:
    minute = [payment("p-1", "o-1", amount=5), payment("p-2", "o-2", amount=7), payment("p-3", "o-3", amount=0)]
    later = payment("p-4", "o-4", amount=0), payment("p-5", "o-5", amount=9)
    late = msgspec.structs.replace(payment("p-6", "o-6", amount=1), occurred_at=TIME)
    moved = [msgspec.structs.replace(it, occurred_at="2026-01-31T12:01:10Z") for it in later]
    await decided(*minute, *moved, late)
    totals = [(it.window_start[11:16], it.count, it.amount, it.revision, it.final) for it in totals_sent()]
    assert totals == [
        ("12:00", 1, 5, 1, False),
        ("12:00", 2, 12, 2, False),
        ("12:00", 2, 12, 3, True),  # a minute and the grace have passed, by a payment that was declined
        ("12:01", 1, 9, 1, False),
    ]
    assert app.outputs.of("payment-late") == [late]
    assert [it.reason for it in app.outputs.of("payment-result")][-1] is None, "late for its window, and yet paid"


def totals_sent() -> list[Any]:
    return list(app.outputs.of("payment-totals"))


async def test_a_delivery_is_started_once() -> None:
    delivery = delivery_of(payment())
    async with asyncio.timeout(10), start_deliveries.test_context() as context:
        for _ in range(2):
            await context.put(delivery, key=delivery.order_id)
    assert [(sent.key, sent.value.event_id) for sent in app.outputs] == [("o-1", "p-1:delivery:status")]


async def test_a_click_charges_and_pays_once() -> None:
    async with asyncio.timeout(10), charge_clicks.test_context() as context:
        for _ in range(2):
            await context.put(click(), key="adv")
    sent: list[tuple[str, Any, Any]] = [(it.topic, it.key, it.value) for it in app.outputs]
    assert sent[:2] == [
        ("advertiser-charge", "adv", charge_of(click())),
        ("publisher-revenue", "pub", revenue_of(click())),
    ]
    starts = [f"2026-01-31T{minute}:00Z" for minute in ("11:56", "11:57", "11:58", "11:59", "12:00")]
    assert [(topic, key) for topic, key, _ in sent[2:]] == [("ad-spend", f"adv|{start}") for start in starts]
    assert {(it.count, it.amount, it.revision, it.final) for _, _, it in sent[2:]} == {(1, 7, 1, False)}
