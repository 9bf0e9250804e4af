"""What others may send has bounds, so that whatever it leads to can be written and read: nothing is half done."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.clicks import rules as clicks
from agents.deliveries import rules as deliveries
from agents.payments import rules as payments
from agents.transfers import rules as transfers
from streamapp.audit import events, values
from streamapp.codec import Codec
from streamapp.delivery.inbox import mark_key
from streamapp.errors import RecordError
from streamapp.records import (
    NAME_BYTES_MAX,
    AccountBalance,
    AdClick,
    AdvertiserCharge,
    BalanceEntry,
    Delivery,
    DeliveryStatus,
    PaidOrder,
    Payment,
    PaymentResult,
    PublisherRevenue,
    Transfer,
    TransferRejected,
)
from streamapp.testing import Bench
from streamapp.topics import MAX_BATCH_BYTES, MAX_RECORD_BYTES

TIME = "2026-01-01T00:00:00Z"
POSTING = f"{2**31 - 1}-{2**63 - 1}"
LARGEST = 2**63 - 1
#: What framing a record has in a batch of its own, generously.
FRAME = 1024
#: Names of the greatest size; JSON writes the first with six bytes for one, the last with two.
WIDEST = ("\x01" * NAME_BYTES_MAX, "é" * (NAME_BYTES_MAX // 2), "😀" * (NAME_BYTES_MAX // 4), '"' * NAME_BYTES_MAX)
NAMES = st.sampled_from(WIDEST) | st.text(max_size=20)
SENDERS: dict[Any, tuple[Any, dict[str, Any]]] = {
    Transfer: (values.transfer, {"amount": LARGEST, "currency": "EUR"}),
    Payment: (events.payment, {"event_type": "PAYMENT_REQUESTED", "amount": LARGEST, "currency": "EUR"}),
    AdClick: (events.click, {"cpc": LARGEST}),
}
#: As many currencies as there are, each with more than 64 bits.
WEALTH = {"".join(letters): 10**25 for letters in product("ABCDEFGHIJKLMNOPQRSTUVWXYZ", repeat=3)}


def accepted(kind: Any, value: bytes) -> bool:
    """Whether worker and auditor take it; they say the same."""
    try:
        Codec(kind).decode(value)
        by_worker = True
    except RecordError:
        by_worker = False
    try:
        SENDERS[kind][0](value)
        by_auditor = True
    except values.Malformed:
        by_auditor = False
    assert by_worker is by_auditor
    return by_worker


def sent(kind: Any, **changes: Any) -> bytes:
    fields = {**dict.fromkeys(kind.NAMES, "x"), **SENDERS[kind][1], "occurred_at": TIME, **changes}
    return json.dumps(fields, ensure_ascii=False).encode()


@pytest.mark.parametrize("kind", SENDERS)
def test_every_name_has_a_bound_in_bytes(kind: Any) -> None:
    fields = {field.name for field in msgspec.structs.fields(kind)}
    assert set(kind.NAMES) == fields - {"occurred_at", "event_type", "amount", "currency", "cpc"}
    for name in kind.NAMES:
        for widest in WIDEST:
            assert accepted(kind, sent(kind, **{name: widest}))
            assert not accepted(kind, sent(kind, **{name: widest + "x"}))
            assert not accepted(kind, sent(kind, **{name: widest + "x"}, note="x"))
    assert accepted(kind, sent(kind, **dict.fromkeys(kind.NAMES, WIDEST[0])))


@pytest.mark.parametrize("kind", [Transfer, Payment])
@pytest.mark.parametrize("currency", ["eur", "EU", "EURO", "", "E R", "ÉUR", "EUR\n", "EU1", "\uff25UR"])
def test_a_currency_is_three_letters(kind: Any, currency: str) -> None:
    assert not accepted(kind, sent(kind, currency=currency))
    assert accepted(kind, sent(kind, currency="XYZ"))


def fits(record: Any, codec: Codec[Any], limit: int = MAX_RECORD_BYTES) -> None:
    """It is within what its consumer accepts and its topic takes, and is read as it was."""
    value = codec.encode(record)
    assert len(value) <= limit
    assert len(codec.key(record)) + len(value) + FRAME <= MAX_BATCH_BYTES
    assert codec.decode(value) == record


def row_fits(key: str, value: bytes) -> None:
    """A row's changelog record; Faust's JSON of a key is ASCII."""
    assert len(json.dumps(key)) + len(value) + FRAME <= MAX_BATCH_BYTES


def mark_fits(agent: str, key: str, *event_id: str) -> None:
    assert len(mark_key(agent, key.encode(), event_id)) + FRAME <= MAX_BATCH_BYTES


@settings(max_examples=100, deadline=None)
@given(st.tuples(NAMES, NAMES, NAMES))
def test_no_transfer_that_is_taken_has_a_leg_a_row_or_an_upsert_that_can_fail(names: tuple[str, str, str]) -> None:
    event_id, sender, receiver = names
    transfer = Transfer(event_id, TIME, sender, receiver, LARGEST, "EUR")
    assert accepted(Transfer, Codec(Transfer).encode(transfer))
    mark_fits("agents.transfers.agent.post_transfers", sender, event_id)
    for leg in (transfers.debit_of(transfer, POSTING), transfers.credit_of(transfer, POSTING)):
        fits(leg, Codec(BalanceEntry))
        assert values.leg(Codec(BalanceEntry).encode(leg)).posting == POSTING
        mark_fits("agents.transfers.agent.apply_credits", leg.account, leg.event_id, leg.counterparty, POSTING)
        after = transfers.applied(None, leg)
        fits(after, Codec(AccountBalance))
        row_fits(leg.account, Codec(AccountBalance).encode(after))
    before = AccountBalance(sender, {"EUR": 10**25}, LARGEST, event_id, "credit", TIME)
    rejection = transfers.rejection_of(transfer, transfers.TransferResult.INSUFFICIENT_FUNDS, before)
    fits(rejection, Codec(TransferRejected))


@pytest.mark.parametrize("name", WIDEST)
def test_an_account_with_every_currency_fits_its_topics(name: str) -> None:
    account = AccountBalance(name, WEALTH, LARGEST, name, "credit", TIME)
    fits(account, Codec(AccountBalance))
    row_fits(name, Codec(AccountBalance).encode(account))


@settings(max_examples=60, deadline=None)
@given(st.tuples(NAMES, NAMES, NAMES, NAMES))
def test_no_payment_that_is_taken_has_a_result_or_a_delivery_that_can_fail(names: tuple[str, str, str, str]) -> None:
    event_id, order, customer, merchant = names
    payment = Payment(event_id, TIME, "PAYMENT_REQUESTED", order, customer, merchant, LARGEST, "EUR")
    assert accepted(Payment, Codec(Payment).encode(payment))
    mark_fits("agents.payments.agent.decide_payments", merchant, event_id)
    for outcome in payments.PaymentOutcome:
        fits(payments.result_of(payment, outcome), Codec(PaymentResult))
    delivery = payments.delivery_of(payment)
    fits(delivery, Codec(Delivery))
    fits(deliveries.status_of(delivery), Codec(DeliveryStatus))
    mark_fits("agents.deliveries.agent.start_deliveries", order, delivery.event_id)
    row_fits(payments.order_key(payment), Codec(PaidOrder).encode(payments.paid_by(payment)))


@settings(max_examples=60, deadline=None)
@given(st.tuples(NAMES, NAMES, NAMES, NAMES))
def test_no_click_that_is_taken_has_a_charge_or_a_revenue_that_can_fail(names: tuple[str, str, str, str]) -> None:
    click = AdClick(names[0], TIME, *names[1:], LARGEST)
    assert accepted(AdClick, Codec(AdClick).encode(click))
    fits(clicks.charge_of(click), Codec(AdvertiserCharge))
    fits(clicks.revenue_of(click), Codec(PublisherRevenue))
    mark_fits("agents.clicks.agent.charge_clicks", click.advertiser_id, click.event_id)


def test_names_of_the_greatest_size_go_all_the_way() -> None:
    with Bench(partitions=1) as app:
        for widest in WIDEST:
            app.feed("transfer", Transfer(widest, TIME, "@" + widest[:-1], widest, 5, "EUR"))
            app.feed("payment", Payment(widest, TIME, "PAYMENT_REQUESTED", widest, widest, widest, 5, "EUR"))
            app.feed("ad-click", AdClick(widest, TIME, widest, widest, widest, 5))
        for topic in ("transfer", "balances", "payment", "delivery", "ad-click"):
            assert app.dead_letters(topic) == []
        assert [app.table("balances")[widest]["balances"] for widest in WIDEST] == [{"EUR": 5}] * len(WIDEST)
        assert len(app.outputs("delivery-status")) == len(app.outputs("publisher-revenue")) == len(WIDEST)


def test_what_was_posted_before_there_were_bounds_is_applied() -> None:
    leg = BalanceEntry("t:credit", TIME, "t", "credit", "x" * 100_000, "@bank", 5, "SHELLS")
    with Bench(partitions=1) as app:
        app.feed("balances", leg)
        assert app.dead_letters("balances") == []
        assert app.table("balances")[leg.account]["balances"] == {"SHELLS": 5}
