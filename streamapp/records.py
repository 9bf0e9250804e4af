"""The records of the contract: what the topics carry, typed and validated where they are decoded.

A struct's `KEY` names the field whose text is the record's key, `NAMES` the fields with a bound in bytes. Unknown
fields are ignored, so that a newer sender does not break an older reader; what is declared is checked strictly.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, Protocol

import msgspec

from streamapp.clock import parse_rfc3339

#: Minor units (cents). Kafka's other readers have 64 bits, so no amount is larger.
Amount = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

#: An amount that is owed: at least one minor unit.
Price = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]

#: Bytes of UTF-8 in an id or a name that somebody else chose; what it leads to then fits every topic (ADR 0026).
NAME_BYTES_MAX = 16 << 10

#: An id or a name. Decoders look at its bytes (`NAMES`) where the record has more; a schema counts characters.
Name = Annotated[str, msgspec.Meta(extra_json_schema={"maxLength": NAME_BYTES_MAX})]

#: Three letters A-Z.
Currency = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[A-Z]{3}$"})]

#: RFC 3339, UTC, `Z`.
Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]

Leg = Literal["debit", "credit"]


@lru_cache(maxsize=1024)
def check_currency(text: str) -> None:
    """Raise `ValueError` unless it is three letters A-Z."""
    if not _CURRENCY.fullmatch(text):
        raise ValueError(f"the currency {text[:20]!r} is not three letters A-Z, such as EUR")


_CURRENCY = re.compile("[A-Z]{3}")


class RecordStruct(Protocol):
    """What every struct of this module has."""

    KEY: ClassVar[str]


class EventRecord(msgspec.Struct, frozen=True):
    """A record that says when it happened: event time is `occurred_at` alone."""

    event_id: str
    occurred_at: Time

    def __post_init__(self) -> None:
        parse_rfc3339(self.occurred_at)


class Request(msgspec.Struct, frozen=True):
    """An event that somebody else sends: its ids and names have bounds, so that whatever it leads to can be written."""

    event_id: Name
    occurred_at: Time

    def __post_init__(self) -> None:
        parse_rfc3339(self.occurred_at)


class Transfer(Request, frozen=True):
    """A wish to move money from one account to another."""

    KEY: ClassVar[str] = "from_account"
    NAMES: ClassVar[tuple[str, ...]] = ("event_id", "from_account", "to_account")
    from_account: Name
    to_account: Name
    amount: Amount
    currency: Currency

    def __post_init__(self) -> None:
        parse_rfc3339(self.occurred_at)
        check_currency(self.currency)


class BalanceEntry(EventRecord, frozen=True, omit_defaults=True):
    """One leg of a posted transfer; a debit's amount is below zero. Without bounds: what was posted is applied.

    `posting` is the transfer's place, `<partition>-<offset>`; None in legs from before there were postings.
    """

    KEY: ClassVar[str] = "account"
    transfer_id: str
    leg: Leg
    account: str
    counterparty: str
    amount: Amount
    currency: str
    posting: str | None = None


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


class TransferRejected(EventRecord, frozen=True):
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


class Payment(Request, frozen=True):
    """A wish to pay for an order at a merchant."""

    KEY: ClassVar[str] = "merchant_id"
    NAMES: ClassVar[tuple[str, ...]] = ("event_id", "order_id", "customer_id", "merchant_id")
    event_type: Literal["PAYMENT_REQUESTED"]
    order_id: Name
    customer_id: Name
    merchant_id: Name
    amount: Amount
    currency: Currency

    def __post_init__(self) -> None:
        parse_rfc3339(self.occurred_at)
        check_currency(self.currency)


class PaymentResult(EventRecord, frozen=True):
    """What became of a payment; `reason` is null where it was completed."""

    KEY: ClassVar[str] = "order_id"
    event_type: Literal["PAYMENT_COMPLETED", "PAYMENT_DECLINED"]
    order_id: str
    customer_id: str
    merchant_id: str
    amount: Amount
    currency: str
    reason: str | None


class PaidOrder(msgspec.Struct, frozen=True):
    """The completed payment of an order at a merchant: a row of the table `payments`."""

    merchant_id: str
    order_id: str
    event_id: str


class Delivery(EventRecord, frozen=True):
    """The order to deliver what was paid for."""

    KEY: ClassVar[str] = "order_id"
    event_type: Literal["DELIVERY_START"]
    order_id: str
    customer_id: str


class DeliveryStatus(EventRecord, frozen=True):
    """A delivery is under way."""

    KEY: ClassVar[str] = "order_id"
    event_type: Literal["DELIVERY_STARTED"]
    order_id: str


class PaymentTotal(msgspec.Struct, frozen=True):
    """What a merchant's completed payments of one window add up to, so far or finally, whatever their currencies."""

    KEY: ClassVar[str] = "merchant_id"
    merchant_id: str
    window_start: Time
    window_end: Time
    count: int
    amount: Amount
    revision: int
    final: bool


class AdClick(Request, frozen=True):
    """A click on an ad: the advertiser owes the publisher `cpc`, minor units and positive."""

    KEY: ClassVar[str] = "advertiser_id"
    NAMES: ClassVar[tuple[str, ...]] = ("event_id", "ad_id", "advertiser_id", "publisher_id")
    ad_id: Name
    advertiser_id: Name
    publisher_id: Name
    cpc: Price


class AdvertiserCharge(EventRecord, frozen=True):
    """What an advertiser owes for one click."""

    KEY: ClassVar[str] = "advertiser_id"
    advertiser_id: str
    ad_id: str
    amount: Price


class PublisherRevenue(EventRecord, frozen=True):
    """What a publisher earns with one click."""

    KEY: ClassVar[str] = "publisher_id"
    publisher_id: str
    ad_id: str
    amount: Price


class AdSpend(msgspec.Struct, frozen=True):
    """What an advertiser's clicks of one window cost, so far or finally."""

    KEY: ClassVar[str] = "advertiser_id"
    advertiser_id: str
    window_start: Time
    window_end: Time
    count: int
    amount: Amount
    revision: int
    final: bool
