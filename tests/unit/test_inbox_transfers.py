"""The inboxes of the transfer agents: repeats do not move money, and two senders' equal ids do not destroy any."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from streamapp.records import BalanceEntry, Transfer

TIME = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def agent() -> Iterator[Any]:
    from agents.transfers import agent

    yield agent
    agent.app.forget_tests()


def transfer(sender: str) -> Transfer:
    return Transfer("t-1", TIME, sender, "bob", 100, "USD")


def credit(sender: str, amount: int = 100) -> BalanceEntry:
    return BalanceEntry("t-1:credit", TIME, "t-1", "credit", "bob", sender, amount, "USD")


async def put(context: Any, *values: tuple[str, Any]) -> None:
    async with asyncio.timeout(10):
        for key, value in values:
            await context.put(value, key=key)


async def test_two_senders_may_use_one_event_id_and_both_credits_arrive(agent: Any) -> None:
    async with agent.apply_credits.test_context() as context:
        await put(context, *[("bob", credit(sender)) for sender in ("@alice", "@carol", "@alice", "@carol")])
        await put(context, ("eve", BalanceEntry("t-2:credit", TIME, "t-2", "credit", "eve", "@a", 1, "USD")))
    bob = agent.balances["bob"]
    assert (bob.balances, bob.entries) == ({"USD": 200}, 2)


async def test_a_repeated_transfer_is_posted_once_for_each_sender(agent: Any) -> None:
    async with agent.post_transfers.test_context() as context:
        await put(context, *[(s, transfer(s)) for s in ("@alice", "@alice", "@carol", "@alice")])
        await put(context, ("@end", transfer("@end")))
    assert [agent.balances[sender].entries for sender in ("@alice", "@carol")] == [1, 1]
