"""The records of a transaction, in the batches of the producer."""

from __future__ import annotations

from streamapp.engine.ownership import Ownership
from streamapp.engine.participant import InFlightTransaction, Order, Participant
from streamapp.eos.producer import Producer


class ProducedRecords(Participant):
    """Parts the batches of the sealed transaction from those of the next one, and forgets both with an abort."""

    order = Order.RECORDS

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def seal(self, transaction: InFlightTransaction) -> None:
        self._producer.seal()

    def aborted(self, owned: Ownership) -> None:
        self._producer.forget()
