"""The rules of transfers: precedence of reasons, legs that sum to zero, refusals that can be checked."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.transfers.rules import TransferResult, applied, credit_of, debit_of, decide, rejection_of
from streamapp.records import AccountBalance, Transfer


def transfer(amount: int = 5, sender: str = "alice", receiver: str = "bob", currency: str = "EUR") -> Transfer:
    return Transfer(
        event_id="t-1",
        occurred_at="2026-01-31T12:00:00Z",
        from_account=sender,
        to_account=receiver,
        amount=amount,
        currency=currency,
    )


def account(balance: int, currency: str = "EUR", entries: int = 1) -> AccountBalance:
    return AccountBalance(
        account="alice",
        balances={currency: balance},
        entries=entries,
        transfer_id="t-0",
        leg="credit",
        updated_at="2026-01-31T11:00:00Z",
    )


@pytest.mark.parametrize(
    ("wish", "source", "result"),
    [
        (transfer(5), account(5), "posted"),
        (transfer(5), account(4), "insufficient_funds"),
        (transfer(5), account(100, "USD"), "insufficient_funds"),
        (transfer(5), None, "insufficient_funds"),
        (transfer(5, sender="@bank"), None, "posted"),
        (transfer(0), account(5), "amount_not_positive"),
        (transfer(-5), account(5), "amount_not_positive"),
        (transfer(5, receiver="alice"), account(5), "same_account"),
        (transfer(5, sender="@bank", receiver="@bank"), None, "same_account"),
    ],
)
def test_outcomes(wish: Transfer, source: AccountBalance | None, result: str) -> None:
    assert decide(wish, source).value == result


def test_the_first_reason_in_the_documented_order_is_given() -> None:
    reasons = list(TransferResult)
    for bad_amount, same, poor in product((True, False), repeat=3):
        wish = transfer(-1 if bad_amount else 5, receiver="alice" if same else "bob")
        holds = [bad_amount, same, poor, True]
        assert decide(wish, account(0 if poor else 5)) is reasons[holds.index(True)]


@given(st.integers(1, 2**62), st.integers(-(2**62), 2**62))
def test_legs_move_the_amount_and_create_nothing(amount: int, before: int) -> None:
    debit, credit = debit_of(transfer(amount), "0-7"), credit_of(transfer(amount), "0-7")
    assert debit.amount + credit.amount == 0
    assert (debit.account, debit.counterparty) == (credit.counterparty, credit.account)
    after = applied(account(before, entries=7), debit)
    assert (after.balances["EUR"], after.entries) == (before - amount, 8)
    assert (after.transfer_id, after.leg, after.updated_at) == ("t-1", "debit", "2026-01-31T12:00:00Z")


def test_currencies_of_an_account_do_not_mix() -> None:
    after = applied(account(10, "USD"), credit_of(transfer(5), "0-7"))
    assert after.balances == {"USD": 10, "EUR": 5}


def test_a_refusal_carries_what_justified_it() -> None:
    refusal = rejection_of(transfer(5), TransferResult.INSUFFICIENT_FUNDS, account(4, entries=3))
    assert (refusal.balance, refusal.entries, refusal.reason) == (4, 3, "insufficient_funds")
    assert refusal.event_id == "t-1:rejected"
