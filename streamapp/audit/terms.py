"""What the judge has to be told, because no record says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from streamapp.audit.record import Topics, unpacked

#: `once`: repeats in the input count once (the inbox). `each`: every record of the input counts, repeat or not.
Expect: TypeAlias = Literal["once", "each"]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where "must have happened" ends, by partition; what is younger may be on its way. None: nothing is.

    Transfers below the cut were consumed before the legs' cut was taken, and legs below theirs before the
    balances' log was: so everything below has all its effects among the records read.
    """

    transfer: Mapping[int, int] | None = None
    balances: Mapping[int, int] | None = None

    def settled_transfer(self, position: int) -> bool:
        """Whether the transfer at this position must have its outcome."""
        return _below(self.transfer, position)

    def settled_leg(self, position: int) -> bool:
        """Whether the leg at this position must have been applied."""
        return _below(self.balances, position)


def _below(bounds: Mapping[int, int] | None, position: int) -> bool:
    if bounds is None:
        return True
    partition, offset = unpacked(position)
    return offset < bounds.get(partition, 0)


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one audit."""

    partitions: Mapping[str, int]  # how many, by topic
    topics: Topics = field(default_factory=Topics)
    group: str = "streamapp"
    expect: Expect = "once"
    inbox_retention_ms: int = 7 * 86_400_000
    cut: Cut = field(default_factory=Cut)
    #: Compaction may have removed upserts appended before this; that is no violation, but no proof either.
    compacted_before_ms: int = 0
