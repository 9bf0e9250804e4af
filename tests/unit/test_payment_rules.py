"""The rules of payments and deliveries: precedence of reasons, one result, one delivery."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agents.deliveries.rules import status_of
from agents.payments.rules import PaymentOutcome, decide, delivery_of, order_key, result_of
from streamapp.records import Payment

LIMIT = 10_000_000
AMOUNTS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-1, 0, 1, LIMIT, LIMIT + 1])


def payment(amount: int = 5, **fields: str) -> Payment:
    named = {"event_id": "p-1", "order_id": "o-1", "customer_id": "ann", "merchant_id": "shop", "currency": "EUR"}
    return Payment(
        event_type="PAYMENT_REQUESTED", occurred_at="2026-01-31T12:00:00Z", amount=amount, **{**named, **fields}
    )


@given(AMOUNTS, st.booleans())
def test_the_first_reason_in_the_documented_order_is_given(amount: int, paid: bool) -> None:
    holds = [amount < 1, amount > LIMIT, paid, True]
    assert decide(payment(amount), limit=LIMIT, paid=paid) is list(PaymentOutcome)[holds.index(True)]


def test_the_reasons_are_those_of_the_contract() -> None:
    assert [str(outcome) for outcome in PaymentOutcome] == [
        "amount_not_positive", "over_limit", "already_paid", "completed",
    ]  # fmt: skip


@given(AMOUNTS, st.booleans(), st.text(), st.text(), st.text(), st.text("ABZ", min_size=3, max_size=3))
def test_a_result_says_what_was_decided_and_of_what(
    amount: int, paid: bool, event_id: str, order: str, customer: str, currency: str
) -> None:
    wish = payment(amount, event_id=event_id, order_id=order, customer_id=customer, currency=currency)
    outcome = decide(wish, limit=LIMIT, paid=paid)
    result = msgspec.to_builtins(result_of(wish, outcome))
    completed = outcome is PaymentOutcome.COMPLETED
    assert result == msgspec.to_builtins(wish) | {
        "event_id": f"{event_id}:result",
        "event_type": "PAYMENT_COMPLETED" if completed else "PAYMENT_DECLINED",
        "reason": None if completed else str(outcome),
    }


@given(st.text(), st.text(), st.text())
def test_a_completed_payment_starts_one_delivery_and_that_has_one_status(
    event_id: str, order: str, customer: str
) -> None:
    delivery = delivery_of(payment(event_id=event_id, order_id=order, customer_id=customer))
    assert msgspec.to_builtins(delivery) == {
        "event_id": f"{event_id}:delivery",
        "event_type": "DELIVERY_START",
        "order_id": order,
        "customer_id": customer,
        "occurred_at": "2026-01-31T12:00:00Z",
    }
    assert msgspec.to_builtins(status_of(delivery)) == {
        "event_id": f"{event_id}:delivery:status",
        "event_type": "DELIVERY_STARTED",
        "order_id": order,
        "occurred_at": "2026-01-31T12:00:00Z",
    }


NAMES = st.text("|%7C25a\u20ac", max_size=5)


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_orders_have_one_name(merchant: str, order: str, other_merchant: str, other_order: str) -> None:
    one, other = (
        payment(merchant_id=merchant, order_id=order),
        payment(merchant_id=other_merchant, order_id=other_order),
    )
    same = (merchant, order) == (other_merchant, other_order)
    assert (order_key(one) == order_key(other)) is same
