"""What a transfer does to the accounts. Pure: records in, records out; no clock, no client, no table.

A refusal is a value. The reasons are tried in the order of `TransferResult`, and the first that holds is given.
"""

from __future__ import annotations

from enum import StrEnum

from streamapp.records import AccountBalance, BalanceEntry, Leg, Transfer, TransferRejected


class TransferResult(StrEnum):
    """The outcome of a transfer, in order of precedence; `POSTED` where no reason against it holds."""

    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    SAME_ACCOUNT = "same_account"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    POSTED = "posted"


def is_outside(account: str) -> bool:
    """True for accounts beyond the ledger: money enters and leaves through them, so they may go below zero."""
    return account.startswith("@")


def decide(transfer: Transfer, source: AccountBalance | None) -> TransferResult:
    """The outcome of `transfer`, given the debited account as it is now (None: never seen, so empty)."""
    if transfer.amount <= 0:
        return TransferResult.AMOUNT_NOT_POSITIVE
    if transfer.from_account == transfer.to_account:
        return TransferResult.SAME_ACCOUNT
    if not is_outside(transfer.from_account) and balance_of(source, transfer.currency) < transfer.amount:
        return TransferResult.INSUFFICIENT_FUNDS
    return TransferResult.POSTED


def balance_of(account: AccountBalance | None, currency: str) -> int:
    """The account's balance in one currency, in minor units."""
    return 0 if account is None else account.balances.get(currency, 0)


def debit_of(transfer: Transfer, posting: str) -> BalanceEntry:
    """The leg that takes the amount from the sender; `posting` is the transfer's place, `<partition>-<offset>`."""
    return _entry(transfer, posting, "debit", transfer.from_account, transfer.to_account, -transfer.amount)


def credit_of(transfer: Transfer, posting: str) -> BalanceEntry:
    """The leg that gives the amount to the receiver; `posting` as of the debit."""
    return _entry(transfer, posting, "credit", transfer.to_account, transfer.from_account, transfer.amount)


def _entry(transfer: Transfer, posting: str, leg: Leg, account: str, counterparty: str, amount: int) -> BalanceEntry:
    return BalanceEntry(
        event_id=f"{transfer.event_id}:{leg}",
        occurred_at=transfer.occurred_at,
        transfer_id=transfer.event_id,
        leg=leg,
        account=account,
        counterparty=counterparty,
        amount=amount,
        currency=transfer.currency,
        posting=posting,
    )


def applied(account: AccountBalance | None, entry: BalanceEntry) -> AccountBalance:
    """The account after one leg."""
    balances = {} if account is None else dict(account.balances)
    balances[entry.currency] = balances.get(entry.currency, 0) + entry.amount
    return AccountBalance(
        account=entry.account,
        balances=balances,
        entries=1 if account is None else account.entries + 1,
        transfer_id=entry.transfer_id,
        leg=entry.leg,
        updated_at=entry.occurred_at,
    )


def rejection_of(transfer: Transfer, reason: TransferResult, source: AccountBalance | None) -> TransferRejected:
    """The refusal, with what was seen of the account, so that anyone can check that it was justified."""
    return TransferRejected(
        event_id=f"{transfer.event_id}:rejected",
        occurred_at=transfer.occurred_at,
        transfer_id=transfer.event_id,
        reason=reason.value,
        from_account=transfer.from_account,
        to_account=transfer.to_account,
        amount=transfer.amount,
        currency=transfer.currency,
        balance=balance_of(source, transfer.currency),
        entries=0 if source is None else source.entries,
    )
