"""Transfers into legs, legs into balances.

A transfer is keyed by the account it debits, so the debit is decided and applied where the transfer is consumed;
the credited account may live in another partition, so its leg travels through `balances` and is applied there.
"""

from __future__ import annotations

from typing import Any, cast

from faust.types import StreamT

from agents.transfers import rules
from streamapp import inbox
from streamapp.app import app
from streamapp.records import AccountBalance, BalanceEntry, Transfer, TransferRejected
from tables.balances import balances

transfers_topic = app.topic("transfer", value_type=Transfer)
entries_topic = app.topic("balances", value_type=BalanceEntry)
upserts_topic = app.topic("account-balances", value_type=AccountBalance)
rejected_topic = app.topic("transfer-rejected", value_type=TransferRejected)


@app.agent(transfers_topic)
@inbox(aggregate_type="TRANSFER", event_type="TRANSFER_POST", aggregate_id="from_account")
async def post_transfers(stream: StreamT[Transfer]) -> None:
    """Post or refuse each transfer; a posted one debits its sender here and now."""
    async for transfer in stream:
        source = balances.get(transfer.from_account)
        result = rules.decide(transfer, source)
        if result is not rules.TransferResult.POSTED:
            rejection = rules.rejection_of(transfer, result, source)
            await rejected_topic.send(key=rejection.from_account, value=rejection)
            continue
        posting = cast(Any, stream.current_event).place
        debit, credit = rules.debit_of(transfer, posting), rules.credit_of(transfer, posting)
        await apply(debit)
        await entries_topic.send(key=debit.account, value=debit)
        await entries_topic.send(key=credit.account, value=credit)


# An id may come again: from another sender, or from the same one when the inbox of transfers has forgotten it. Each
# posting has a debit, so each has its credit. Legs from before there were postings are known by their counterparty.
@app.agent(entries_topic)
@inbox(
    aggregate_type="ACCOUNT",
    event_type="BALANCE_CREDIT",
    event_id=("event_id", "counterparty", "posting"),
    aggregate_id="account",
)
async def apply_credits(stream: StreamT[BalanceEntry]) -> None:
    """Apply each credit to its account; the debits in the topic were applied before they were written."""
    async for entry in stream:
        if entry.leg == "credit":
            await apply(entry)


async def apply(entry: BalanceEntry) -> None:
    """Change the balance and publish the account as it is then. No await stands between the read and the write."""
    account = rules.applied(balances.get(entry.account), entry)
    balances[entry.account] = account
    await upserts_topic.send(key=account.account, value=account)
