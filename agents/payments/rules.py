"""What becomes of a payment. Pure: records in, records out; no clock, no client, no table.

A refusal is a value. The reasons are tried in the order of `PaymentOutcome`, and the first that holds is given.
"""

from __future__ import annotations

from enum import StrEnum

from streamapp.records import Delivery, PaidOrder, Payment, PaymentResult


class PaymentOutcome(StrEnum):
    """The outcome of a payment, in order of precedence; `COMPLETED` where no reason against it holds."""

    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    OVER_LIMIT = "over_limit"
    ALREADY_PAID = "already_paid"
    COMPLETED = "completed"


def order_key(payment: Payment) -> str:
    """The name of an order: two merchants may call theirs the same, and names may have a `|` in them."""
    merchant = payment.merchant_id
    if "|" in merchant or "%" in merchant:
        merchant = merchant.replace("%", "%25").replace("|", "%7C")
    return f"{merchant}|{payment.order_id}"


def decide(payment: Payment, *, limit: int, paid: bool) -> PaymentOutcome:
    """The outcome of `payment`; `limit` in minor units, `paid`: its order was paid at its merchant before."""
    if payment.amount <= 0:
        return PaymentOutcome.AMOUNT_NOT_POSITIVE
    if payment.amount > limit:
        return PaymentOutcome.OVER_LIMIT
    if paid:
        return PaymentOutcome.ALREADY_PAID
    return PaymentOutcome.COMPLETED


def result_of(payment: Payment, outcome: PaymentOutcome) -> PaymentResult:
    """What the payer and the merchant are told."""
    completed = outcome is PaymentOutcome.COMPLETED
    return PaymentResult(
        event_id=f"{payment.event_id}:result",
        occurred_at=payment.occurred_at,
        event_type="PAYMENT_COMPLETED" if completed else "PAYMENT_DECLINED",
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        merchant_id=payment.merchant_id,
        amount=payment.amount,
        currency=payment.currency,
        reason=None if completed else outcome.value,
    )


def delivery_of(payment: Payment) -> Delivery:
    """The delivery that a completed payment starts."""
    return Delivery(
        event_id=f"{payment.event_id}:delivery",
        occurred_at=payment.occurred_at,
        event_type="DELIVERY_START",
        order_id=payment.order_id,
        customer_id=payment.customer_id,
    )


def paid_by(payment: Payment) -> PaidOrder:
    """What is kept of a completed payment."""
    return PaidOrder(merchant_id=payment.merchant_id, order_id=payment.order_id, event_id=payment.event_id)
