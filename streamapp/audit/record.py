"""What the auditor reads, before it knows what it means: one record of a topic, and which topic plays which part."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple


class Record(NamedTuple):
    """One record as Kafka gave it. `timestamp_ms` is the append time; headers in the order they were written."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of the contract. The judges read them whole, one after the other, in the order of `all`.

    Dead letters and late records before their source, so that a record finds its own when it is read; causes before
    effects; refusals before legs, so that a refused transfer is known to be refused; logs of upserts last, because
    they are folded while they are read.
    """

    transfer_dlt: str = "transfer-dlt"
    balances_dlt: str = "balances-dlt"
    transfer: str = "transfer"
    rejected: str = "transfer-rejected"
    balances: str = "balances"
    account_balances: str = "account-balances"
    payment_dlt: str = "payment-dlt"
    payment_late: str = "payment-late"
    delivery_dlt: str = "delivery-dlt"
    payment: str = "payment"
    payment_result: str = "payment-result"
    delivery: str = "delivery"
    delivery_status: str = "delivery-status"
    payment_totals: str = "payment-totals"
    click_dlt: str = "ad-click-dlt"
    click_late: str = "ad-click-late"
    click: str = "ad-click"
    charge: str = "advertiser-charge"
    revenue: str = "publisher-revenue"
    ad_spend: str = "ad-spend"

    @classmethod
    def prefixed(cls, prefix: str) -> Topics:
        """The contract's names with a prefix: a test's own topics."""
        return cls(*(prefix + name for name in cls().all))

    @property
    def all(self) -> tuple[str, ...]:
        """Every topic, in the order of reading."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def with_headers(self) -> tuple[str, ...]:
        """Where headers say what a record is about: dead letters and late records."""
        letters = (self.transfer_dlt, self.balances_dlt, self.payment_dlt, self.delivery_dlt, self.click_dlt)
        return (*letters, self.payment_late, self.click_late)

    @property
    def inputs(self) -> tuple[tuple[str, ...], ...]:
        """What the service consumes, in the order of the flow: the first lead to the second."""
        return (self.transfer, self.payment, self.click), (self.balances, self.delivery)

    @property
    def upserts(self) -> tuple[str, ...]:
        """Logs that are compacted some day."""
        return self.account_balances, self.payment_totals, self.ad_spend


#: A partition and an offset in one integer: positions of one partition compare as their offsets do.
_OFFSET_BITS = 48
#: The position of a record that does not exist.
NOWHERE = -1


def packed(partition: int, offset: int) -> int:
    """The position as one integer, because a million of them are kept."""
    return partition << _OFFSET_BITS | offset


def unpacked(position: int) -> tuple[int, int]:
    """Partition and offset of a position."""
    return position >> _OFFSET_BITS, position & (1 << _OFFSET_BITS) - 1


def place(topic: str, position: int) -> str:
    """`topic[partition]@offset`, as people write it."""
    partition, offset = unpacked(position)
    return f"{topic}[{partition}]@{offset}"
