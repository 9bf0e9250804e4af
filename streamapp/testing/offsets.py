"""A group's committed offsets, and those that wait for their transaction's outcome."""

from __future__ import annotations

from collections.abc import Mapping

from streamapp.eos.protocol import Code, CommittedOffset
from streamapp.types import Partition


class GroupOffsets:
    """What a group has read, per partition."""

    def __init__(self) -> None:
        self.committed: dict[Partition, int] = {}
        #: By producer id: it has one transaction open at a time.
        self.pending: dict[int, dict[Partition, int]] = {}

    def stage(self, producer_id: int, offsets: Mapping[Partition, int]) -> None:
        """Offsets of an open transaction: they count when its marker says so."""
        self.pending.setdefault(producer_id, {}).update(offsets)

    def mark(self, producer_id: int, committed: bool) -> None:
        """The transaction's outcome has come."""
        staged = self.pending.pop(producer_id, {})
        if committed:
            self.committed.update(staged)

    def read(self, partition: Partition, *, require_stable: bool) -> CommittedOffset:
        """-1: never committed. With `require_stable` 88 while any transaction on the partition is undecided."""
        if require_stable and any(partition in staged for staged in self.pending.values()):
            return CommittedOffset(Code.UNSTABLE_OFFSET_COMMIT)
        return CommittedOffset(Code.NONE, self.committed.get(partition, -1))
