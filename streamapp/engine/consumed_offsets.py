"""The offsets that a transaction carries: how far the inputs of the owned tasks were consumed."""

from __future__ import annotations

from streamapp.engine.ownership import Ownership
from streamapp.engine.participant import InFlightTransaction, Order, Participant
from streamapp.types import Partition


class ConsumedOffsets(Participant):
    """Decides them when a transaction is sealed, and takes them for committed when it is."""

    order = Order.OFFSETS

    def is_due(self, owned: Ownership) -> bool:
        """Whether a partition was read past what is committed, with or without an event."""
        return bool(moved_offsets(owned))

    def seal(self, transaction: InFlightTransaction) -> None:
        owned = transaction.owned
        transaction.finished = {partition: it.offset for task in owned.tasks for partition, it in task.inputs.items()}
        transaction.offsets = moved_offsets(owned)
        if not transaction.offsets:  # a transaction of a timer: an owned offset, so that the membership guards it
            partition, offset = next(iter(owned.committed.items()))
            transaction.offsets[partition] = offset

    def committed(self, transaction: InFlightTransaction) -> None:
        transaction.owned.committed.update(transaction.offsets)


def moved_offsets(owned: Ownership) -> dict[Partition, int]:
    """The offsets that are not committed yet.

    A partition with nothing buffered counts as read up to the consumer's position: past control records and aborted
    records.
    """
    offsets: dict[Partition, int] = {}
    for task in owned.tasks:
        for partition, it in task.inputs.items():
            offset = it.offset
            if not it.buffered and owned.consumer is not None:
                position = owned.consumer.position(partition)
                offset = max(offset, position) if position is not None else offset
            if offset != owned.committed.get(partition):
                offsets[partition] = offset
    return offsets
