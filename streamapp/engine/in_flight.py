"""A sealed transaction: all that belongs to it, taken behind the barrier, so that events go on while it is in flight.

    barrier ──▶ seal ──▶ gate open: what events do from here on is the next transaction's
                  └────▶ in flight ──▶ committed ──▶ settle: disk, offsets, intents
                                   └─▶ aborted: given up, with all that came after it and may have seen it

One is in flight at most: the next one's records, rows and offsets stay in the worker until this one is settled. What
is decided with a transaction (offsets, append times) is what was known when it was sealed, so that the next one may
be lost with a crash and be done again on the same state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamapp.engine.environment import Consumer
from streamapp.engine.positions import Positions
from streamapp.engine.task import Task
from streamapp.eos.producer import Producer, Written
from streamapp.state.partition import Partition as StorePartition
from streamapp.types import Partition


class Sealed:
    """See the module. Made behind the barrier, with no unit open.

    `changelogs`: table -> its changelog; `committed`: the offsets that are, of every owned partition.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        producer: Producer,
        changelogs: Mapping[str, str],
        committed: Mapping[Partition, int],
        consumer: Consumer | None,
        positions: Positions | None = None,
    ) -> None:
        #: How far events have finished; `offsets` may be further, behind control records.
        self.finished = {at: it.offset for task in tasks for at, it in task.inputs.items()}
        #: The consumed offsets it carries.
        self.offsets = moved_offsets(tasks, committed, consumer)
        if not self.offsets:  # a timer's transaction carries an owned offset again
            at, offset = next(iter(committed.items()))
            self.offsets[at] = offset
        self._times = [(task, task.append_time(consumer.at_end if consumer else _never)) for task in tasks]
        self._stores: dict[Partition, StorePartition] = {}
        for task in tasks:
            for table, store in task.stores.items():
                if store.overlay:
                    changelog = changelogs[table]
                    self._stores[Partition(changelog, task.number)] = store
                    producer.append_all(changelog, task.number, store.seal())
        self._positions = positions
        self._positioned = {} if positions is None else positions.seal(producer, committed, self.offsets, consumer)
        producer.seal()

    def settle(self, written: Mapping[Partition, Written]) -> None:
        """It is committed: bring the stores there. `written`: where its changelog records went."""
        for task, time in self._times:
            if time is not None:
                for store in task.stores.values():
                    store.advance(*time)
        if self._positions is not None:
            self._positions.settle(self._positioned)
        for changelog, store in self._stores.items():
            store.commit(written[changelog].next_offset)


def moved_offsets(
    tasks: Sequence[Task], committed: Mapping[Partition, int], consumer: Consumer | None
) -> dict[Partition, int]:
    """The offsets that are not committed. A partition with nothing buffered is read up to its position, past control
    records and aborted ones.
    """
    offsets: dict[Partition, int] = {}
    for task in tasks:
        for partition, it in task.inputs.items():
            offset = it.offset
            if not it.buffered and consumer is not None:
                position = consumer.position(partition)
                offset = max(offset, position) if position is not None else offset
            if offset != committed.get(partition):
                offsets[partition] = offset
    return offsets


def _never(partition: Partition) -> bool:
    return False
