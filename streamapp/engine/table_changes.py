"""What finished units wrote to tables: changelog records in the transaction, rows on disk behind it."""

from __future__ import annotations

from streamapp.engine.ownership import Ownership
from streamapp.engine.participant import InFlightTransaction, Order, Participant
from streamapp.engine.task import Task
from streamapp.state.partition import TablePartition
from streamapp.types import Partition


class TableChanges(Participant):
    """Seals the overlays of the owned tables and stores them, with their checkpoint, once they are committed."""

    order = Order.TABLES

    def __init__(self) -> None:
        self._sealed: dict[Partition, TablePartition] = {}
        self._append_times: list[tuple[Task, tuple[int, int] | None]] = []

    def seal(self, transaction: InFlightTransaction) -> None:
        owned, producer = transaction.owned, transaction.producer
        at_end = _never if owned.consumer is None else owned.consumer.at_end
        self._append_times = [(task, task.append_time(at_end)) for task in owned.tasks]
        self._sealed = {}
        for task in owned.tasks:
            for table, store in task.stores.items():
                if store.overlay:
                    changelog = owned.changelogs[table]
                    self._sealed[Partition(changelog, task.number)] = store
                    producer.append_all(changelog, task.number, store.seal())

    def committed(self, transaction: InFlightTransaction) -> None:
        for task, append_time in self._append_times:
            if append_time is not None:
                for store in task.stores.values():
                    store.advance(*append_time)
        for changelog, store in self._sealed.items():
            store.commit(transaction.written[changelog].next_offset)

    def aborted(self, owned: Ownership) -> None:
        for task in owned.tasks:
            for store in task.stores.values():
                store.abort()


def _never(partition: Partition) -> bool:
    return False
