"""The agents of transfers in Faust's test contexts: no broker, tables in memory, sends collected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents.transfers import rules
from agents.transfers.agent import apply_credits, post_transfers
from streamapp.app import app
from streamapp.records import Transfer
from tables.balances import balances


@pytest.fixture(autouse=True)
def nothing_of_the_last_test() -> Iterator[None]:
    app.forget_tests()
    yield
    app.forget_tests()


def transfer(amount: int, sender: str = "@bank", receiver: str = "alice", event_id: str = "t-1") -> Transfer:
    return Transfer(
        event_id=event_id,
        occurred_at="2026-01-31T12:00:00Z",
        from_account=sender,
        to_account=receiver,
        amount=amount,
        currency="EUR",
    )


async def test_a_posted_transfer_debits_its_sender_and_sends_both_legs() -> None:
    async with post_transfers.test_context() as context:
        await context.put(transfer(500))
        sent = app.outputs
        assert [(leg.event_id, leg.account, leg.amount) for leg in sent.of("balances")] == [
            ("t-1:debit", "@bank", -500),
            ("t-1:credit", "alice", 500),
        ]
        assert balances["@bank"].balances == {"EUR": -500}
        assert [(upsert.account, upsert.entries) for upsert in sent.of("account-balances")] == [("@bank", 1)]


async def test_a_refused_transfer_moves_nothing_and_says_why() -> None:
    async with post_transfers.test_context() as context:
        await context.put(transfer(5, sender="alice", receiver="bob"))
        (refusal,) = app.outputs
        assert (refusal.topic, refusal.value.reason) == ("transfer-rejected", "insufficient_funds")
        assert (refusal.value.balance, refusal.value.entries) == (0, 0)
        assert "alice" not in balances


async def test_a_balance_beyond_64_bits_is_exact() -> None:
    largest = 2**63 - 1
    async with post_transfers.test_context() as context:
        await context.put(transfer(largest))
        await context.put(transfer(largest, event_id="t-2"))
        await context.put(transfer(1, receiver="@bank", event_id="t-3"))
        assert balances["@bank"].balances == {"EUR": -2 * largest}
        assert app.outputs.of("account-balances")[-1] == balances["@bank"]
        assert app.outputs.of("transfer-rejected")[-1].balance == -2 * largest


async def test_money_can_be_spent_once_it_is_credited() -> None:
    async with apply_credits.test_context() as context:
        await context.put(rules.credit_of(transfer(500), "0-7"))
        await context.put(rules.debit_of(transfer(500), "0-7"))  # applied where it was decided, not here
        assert balances["alice"].balances == {"EUR": 500}
        assert balances["alice"].entries == 1


async def test_a_restarted_agent_finds_its_tables_and_a_new_test_does_not() -> None:
    for event_id, entries in (("t-1", 1), ("t-2", 2)):
        async with apply_credits.test_context() as context:
            await context.put(rules.credit_of(transfer(500, event_id=event_id), "0-7"))
            assert balances["alice"].entries == entries
    app.forget_tests()
    assert "alice" not in balances
    assert app.outputs is None
