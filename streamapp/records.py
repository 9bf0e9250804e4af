"""The records of the contract: what the topics carry, typed and validated where they are decoded.

A struct's `KEY` names the field whose text is the record's key. Unknown fields are ignored, so that a newer
sender does not break an older reader; everything that is declared is checked strictly.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Protocol

import msgspec

from streamapp.clock import parse_rfc3339

#: Minor units (cents). Kafka's other readers have 64 bits, so no amount is larger.
Amount = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

#: RFC 3339, UTC, `Z`.
Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]

Leg = Literal["debit", "credit"]


class Record(Protocol):
    """What every struct of this module has."""

    KEY: ClassVar[str]


class Event(msgspec.Struct, frozen=True):
    """A record that says when it happened: event time is `occurred_at` alone."""

    event_id: str
    occurred_at: Time

    def __post_init__(self) -> None:
        parse_rfc3339(self.occurred_at)


class Transfer(Event, frozen=True):
    """A wish to move money from one account to another."""

    KEY: ClassVar[str] = "from_account"
    from_account: str
    to_account: str
    amount: Amount
    currency: str


class BalanceEntry(Event, frozen=True):
    """One leg of a posted transfer; a debit's amount is below zero."""

    KEY: ClassVar[str] = "account"
    transfer_id: str
    leg: Leg
    account: str
    counterparty: str
    amount: Amount
    currency: str


class AccountBalance(msgspec.Struct, frozen=True):
    """An account after a leg was applied: the table's value and, as it is, the upsert of `account-balances`.

    `entries` counts the legs applied so far, so the upserts of an account show the order they were applied in.
    """

    KEY: ClassVar[str] = "account"
    account: str
    balances: dict[str, int]
    entries: int
    transfer_id: str
    leg: Leg
    updated_at: Time


class TransferRejected(Event, frozen=True):
    """A transfer that was not posted, with the account's balance and entries as they were seen."""

    KEY: ClassVar[str] = "from_account"
    transfer_id: str
    reason: str
    from_account: str
    to_account: str
    amount: Amount
    currency: str
    balance: int
    entries: int
