"""The replay of a refused transaction: its events again, one a commit, until the one that is refused alone is known."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from streamapp.engine.gate import Gate
from streamapp.engine.participant import InFlightTransaction, Order, Participant
from streamapp.engine.unit import Unit
from streamapp.eos.remedies import ContentRefused
from streamapp.errors import ConfigurationError, RecordError
from streamapp.types import Partition

logger = logging.getLogger(__name__)


class Replay(Participant):
    """Runs the events of a refused transaction one at a time, until the one at fault is known.

    While it goes on, the gate lets one unit in at a time (`Gate.single`).
    """

    order = Order.REPLAY

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        #: It goes on up to here.
        self._until: dict[Partition, int] = {}
        #: The place of the event that ran last; None: a timer's run.
        self._alone: tuple[Partition, int] | None = None
        #: Why the broker refused what an event led to.
        self._refusals: dict[tuple[Partition, int], RecordError] = {}

    def ran(self, unit: Unit) -> None:
        """This unit is the open transaction's only one."""
        self._alone = _place(unit.records[0]) if unit.records else None

    def refusal(self, record: Any) -> RecordError | None:
        """Why the broker refused what this record led to, when its event was alone in a transaction."""
        return self._refusals.get(_place(record))

    def refused(self, refusal: ContentRefused, finished: Mapping[Partition, int]) -> bool:
        """A transaction was refused for what is in it: run the interval again, one event a transaction.

        `finished`: how far the interval went. The event that is then refused alone is dead-lettered. True: it was no
        event but a timer's run, whose sends are to be given up. Raises `ConfigurationError` when even the dead letter
        is refused: the worker ends, and nothing is lost.
        """
        if not self._gate.single:
            self._until = dict(finished)
            self._gate.single = True
        elif self._alone is None:
            logger.error("the broker refused the records of a timer; they are discarded: %s", refusal)
            return True
        elif self._alone in self._refusals:
            raise ConfigurationError(
                f"Even the dead letter of {self._alone[0]}@{self._alone[1]} was refused. {refusal} "
                "Nothing is lost: the event is not committed. Look at the dead-letter topic: it needs "
                "cleanup.policy=delete, since a compacted topic takes no letter without a key, and a max.message.bytes "
                "as large as its source's and 64 KiB. Then start the worker again."
            ) from refusal
        else:
            self._refusals[self._alone] = RecordError(str(refusal), kind="OutputRefused")
        return False

    def committed(self, transaction: InFlightTransaction) -> None:
        """One more event is committed; the replay ends with the last one of the interval."""
        offsets = transaction.owned.committed
        if self._gate.single and all(offsets.get(at, until) >= until for at, until in self._until.items()):
            self.end()

    def revoked(self) -> None:
        self.end()

    def end(self) -> None:
        """Events run as usual again."""
        self._gate.single = False
        self._until = {}
        self._refusals = {}
        self._alone = None


def _place(record: Any) -> tuple[Partition, int]:
    return Partition(record.topic, record.partition), record.offset
