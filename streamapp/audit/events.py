"""Payments, deliveries, clicks and windows as the contract defines their records; see `values`."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from streamapp.audit.values import Malformed, Shape, fields_of, microseconds


class Payment(NamedTuple):
    """The declared fields of a payment. `occurred_us` here and below: microseconds since 1970, UTC."""

    event_id: str
    event_type: str
    order_id: str
    customer_id: str
    merchant_id: str
    amount: int
    currency: str
    occurred_us: int


class Result(NamedTuple):
    """The declared fields of a record of `payment-result`."""

    event_id: str
    event_type: str
    order_id: str
    customer_id: str
    merchant_id: str
    amount: int
    currency: str
    reason: str | None
    occurred_us: int


class Delivery(NamedTuple):
    """The declared fields of a record of `delivery`."""

    event_id: str
    event_type: str
    order_id: str
    customer_id: str
    occurred_us: int


class Status(NamedTuple):
    """The declared fields of a record of `delivery-status`."""

    event_id: str
    event_type: str
    order_id: str
    occurred_us: int


class Click(NamedTuple):
    """The declared fields of a click."""

    event_id: str
    ad_id: str
    advertiser_id: str
    publisher_id: str
    cpc: int
    occurred_us: int


class Charge(NamedTuple):
    """The declared fields of a record of `advertiser-charge`."""

    event_id: str
    advertiser_id: str
    ad_id: str
    amount: int
    occurred_us: int


class Revenue(NamedTuple):
    """The declared fields of a record of `publisher-revenue`."""

    event_id: str
    publisher_id: str
    ad_id: str
    amount: int
    occurred_us: int


class Total(NamedTuple):
    """The declared fields of an upsert of a window; `start` is the text of `window_start`."""

    name: str
    start: str
    events: int  # the field `count`
    amount: int
    revision: int
    final: bool
    start_us: int
    end_us: int


_Typed = TypeVar("_Typed", Payment, Result, Delivery, Status)

_PAYMENT = Shape(
    names=("event_id", "order_id", "customer_id", "merchant_id"), bounded_currency=True, event_id=str, event_type=str,
    order_id=str, customer_id=str, merchant_id=str, amount=int, currency=str, occurred_at=str,
)  # fmt: skip
_RESULT = Shape(
    nullable="reason", event_id=str, event_type=str, order_id=str, customer_id=str, merchant_id=str, amount=int,
    currency=str, reason=str, occurred_at=str,
)  # fmt: skip
_DELIVERY = Shape(event_id=str, event_type=str, order_id=str, customer_id=str, occurred_at=str)
_STATUS = Shape(event_id=str, event_type=str, order_id=str, occurred_at=str)
_CLICK = Shape(
    names=("event_id", "ad_id", "advertiser_id", "publisher_id"), event_id=str, ad_id=str, advertiser_id=str,
    publisher_id=str, cpc=int, occurred_at=str,
)  # fmt: skip
_CHARGE = Shape(event_id=str, advertiser_id=str, ad_id=str, amount=int, occurred_at=str)
_REVENUE = Shape(event_id=str, publisher_id=str, ad_id=str, amount=int, occurred_at=str)
_TOTALS = {
    "merchant_id": Shape(
        merchant_id=str, window_start=str, count=int, amount=int, revision=int, final=bool, window_end=str
    ),
    "advertiser_id": Shape(
        advertiser_id=str, window_start=str, count=int, amount=int, revision=int, final=bool, window_end=str
    ),
}


def payment(value: bytes | None) -> Payment:
    """A payment. Raises `Malformed`, as all of these do."""
    return _typed(Payment(*fields_of(value, _PAYMENT)), "PAYMENT_REQUESTED")


def result(value: bytes | None) -> Result:
    """A record of `payment-result`."""
    return _typed(Result(*fields_of(value, _RESULT)), "PAYMENT_COMPLETED", "PAYMENT_DECLINED")


def delivery(value: bytes | None) -> Delivery:
    """A record of `delivery`."""
    return _typed(Delivery(*fields_of(value, _DELIVERY)), "DELIVERY_START")


def status(value: bytes | None) -> Status:
    """A record of `delivery-status`."""
    return _typed(Status(*fields_of(value, _STATUS)), "DELIVERY_STARTED")


def click(value: bytes | None) -> Click:
    """A click; its price is positive."""
    made = Click(*fields_of(value, _CLICK))
    if made.cpc < 1:
        raise Malformed(f"cpc is {made.cpc}, not positive")
    return made


def charge(value: bytes | None) -> Charge:
    """A record of `advertiser-charge`."""
    return Charge(*fields_of(value, _CHARGE))


def revenue(value: bytes | None) -> Revenue:
    """A record of `publisher-revenue`."""
    return Revenue(*fields_of(value, _REVENUE))


def total(value: bytes | None, owner: str) -> Total:
    """An upsert of a window; `owner` is the name of the field whose text is the first part of the key."""
    name, start, count, amount, revision, final, end_us = fields_of(value, _TOTALS[owner])
    return Total(name, start, count, amount, revision, final, microseconds(start), end_us)


def _typed(made: _Typed, *types: str) -> _Typed:
    if made.event_type not in types:
        raise Malformed(f"event_type is {made.event_type!r}, not {' or '.join(types)}")
    return made
