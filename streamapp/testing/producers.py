"""What a partition remembers of each producer: its epoch, its last batches, its open transaction.

The rules are those of Kafka's ProducerStateManager and ProducerAppendInfo (facts of their behaviour, checked against
a real broker by `tests/contract`).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from streamapp.eos.protocol import Code

#: Kafka keeps that many batches a producer to recognise a repeated one.
REMEMBERED_BATCHES = 5
_SEQUENCE_LIMIT = 2**31


class WrittenBatch(NamedTuple):
    """A batch that was appended, as a repeated one is recognised."""

    first_sequence: int
    last_sequence: int
    base_offset: int


class ProducerState:
    """One producer id in one partition."""

    __slots__ = ("batches", "epoch", "open_since")

    def __init__(self) -> None:
        self.epoch = -1
        self.batches: deque[WrittenBatch] = deque(maxlen=REMEMBERED_BATCHES)
        #: Offset of the open transaction's first record; None: no transaction is open here.
        self.open_since: int | None = None

    def repeated(self, epoch: int, first_sequence: int, last_sequence: int) -> int | None:
        """The offset the same batch got before, if it is one of the last few of this epoch."""
        if epoch == self.epoch:
            for written in self.batches:
                if (written.first_sequence, written.last_sequence) == (first_sequence, last_sequence):
                    return written.base_offset
        return None

    def verdict(self, epoch: int, first_sequence: int, transactional: bool) -> int:
        """The error code for a batch that is not a repeated one; 0 when it may be appended."""
        if epoch < self.epoch:
            return Code.INVALID_PRODUCER_EPOCH
        if epoch > self.epoch:
            # A new epoch, or a producer this partition never saw, begins at 0 (transaction protocol v2).
            if first_sequence != 0:
                return Code.OUT_OF_ORDER_SEQUENCE_NUMBER
        elif first_sequence != self._next_sequence():
            return Code.OUT_OF_ORDER_SEQUENCE_NUMBER
        if self.open_since is not None and not transactional:
            return Code.INVALID_TXN_STATE
        return Code.NONE

    def appended(self, epoch: int, written: WrittenBatch, transactional: bool) -> None:
        """Remember a batch that is now in the log."""
        self._raise_epoch(epoch)
        self.batches.append(written)
        if transactional and self.open_since is None:
            self.open_since = written.base_offset

    def ended(self, epoch: int) -> None:
        """Remember a marker: the transaction is over, and what comes late from its epoch is refused."""
        self._raise_epoch(epoch)
        self.open_since = None

    def _next_sequence(self) -> int:
        return (self.batches[-1].last_sequence + 1) % _SEQUENCE_LIMIT if self.batches else 0

    def _raise_epoch(self, epoch: int) -> None:
        if epoch > self.epoch:
            self.epoch = epoch
            self.batches.clear()
