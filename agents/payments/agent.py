"""Payments into results; a completed one starts its delivery and counts in its merchant's window.

A payment is keyed by its merchant, so all payments of a merchant are decided in one task, one after the other: that
is where "this order was paid before" can be known. An order paid at two merchants is two orders.
"""

from __future__ import annotations

from faust.types import StreamT

from agents.payments import rules
from streamapp import inbox
from streamapp.app import app
from streamapp.records import Delivery, Payment, PaymentResult
from tables.payment_totals import payment_totals
from tables.payments import payments

payments_topic = app.topic("payment", value_type=Payment)
results_topic = app.topic("payment-result", value_type=PaymentResult)
deliveries_topic = app.topic("delivery", value_type=Delivery)


@app.agent(payments_topic)
@inbox(aggregate_type="PAYMENT", event_type="PAYMENT_DECIDE", event_id="event_id", aggregate_id="merchant_id")
async def decide_payments(stream: StreamT[Payment]) -> None:
    """Complete or decline each payment."""
    async for payment in stream:
        order = rules.order_key(payment)
        outcome = rules.decide(payment, limit=app.settings.payment_limit, paid=order in payments)
        result = rules.result_of(payment, outcome)
        await results_topic.send(key=result.order_id, value=result)
        if outcome is rules.PaymentOutcome.COMPLETED:
            payments[order] = rules.paid_by(payment)
            payment_totals.add(payment.merchant_id, payment)
            delivery = rules.delivery_of(payment)
            await deliveries_topic.send(key=delivery.order_id, value=delivery)
