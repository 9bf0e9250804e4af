"""What the auditor reads, before it knows what it means: one record of a topic, and which topic plays which part."""

from __future__ import annotations

from dataclasses import dataclass
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
    """The topics of the transfer rules. The judge reads them whole, one after the other, in the order of `all`.

    Dead letters first, so that a bad record finds its letter when it is read; refusals before legs, so that a
    refused transfer is known to be refused; the balances' log last, because it is folded while it is read.
    """

    transfer: str = "transfer"
    rejected: str = "transfer-rejected"
    balances: str = "balances"
    account_balances: str = "account-balances"
    transfer_dlt: str = "transfer-dlt"
    balances_dlt: str = "balances-dlt"

    @classmethod
    def prefixed(cls, prefix: str) -> Topics:
        """The contract's names with a prefix: a test's own topics."""
        default = cls()
        return cls(*(prefix + name for name in (
            default.transfer, default.rejected, default.balances, default.account_balances,
            default.transfer_dlt, default.balances_dlt,
        )))  # fmt: skip

    @property
    def all(self) -> tuple[str, ...]:
        """Every topic, in the order of reading."""
        return (
            self.transfer_dlt, self.balances_dlt, self.transfer, self.rejected, self.balances, self.account_balances,
        )  # fmt: skip


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
