"""What takes part in a transaction: whatever must have its effect exactly once, with the commit or not at all.

    units finish ──▶ open transaction ── seal ──▶ in flight ── committed ──▶ effects outside of the worker
                                                      └─────── aborted ────▶ as if it had never been

One transaction is in flight at most. What is decided with it (offsets, append times) is what was known when it was
sealed, so that the next one may be lost with a crash and be done again on the same state.

A new participant is a class with these calls, registered with `Committer.register`; the committer is not edited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from streamapp.engine.ownership import Ownership
from streamapp.eos.producer import Producer, Written
from streamapp.types import Partition


class Order(IntEnum):
    """The order in which participants are sealed. They are committed and aborted in the reverse order."""

    #: Adds rows that were held back to the open transaction.
    UPSERTS = 0
    #: Reads the changes of a table, so it comes before `TABLES`; runs handlers once the tables are stored.
    AFTER_COMMIT = 1
    TIMERS = 2
    #: Looks at the committed offsets once they are the new ones.
    REPLAY = 3
    #: Measures until the tables are stored.
    STATISTICS = 4
    OFFSETS = 5
    #: Appends changelog records.
    TABLES = 6
    #: Appends the positions of the offsets.
    POSITIONS = 7
    #: The records that are produced: nothing can be appended behind it.
    RECORDS = 8


@dataclass(eq=False)
class InFlightTransaction:
    """One transaction, from the barrier until it is committed or aborted."""

    owned: Ownership
    producer: Producer
    #: Units that have finished in it.
    unit_count: int
    #: When its commit began, monotonic seconds.
    began_at: float
    #: How far the events of each input have finished.
    finished: dict[Partition, int] = field(default_factory=dict)
    #: The consumed offsets it carries; they may be further than `finished`, behind control records.
    offsets: dict[Partition, int] = field(default_factory=dict)
    #: Where its records went, once it is committed.
    written: Mapping[Partition, Written] = field(default_factory=dict)


class Participant:
    """Takes part in every transaction. Each call is one synchronous step; what it raises ends the worker."""

    order: Order

    def is_due(self, owned: Ownership) -> bool:
        """Whether it has something for a transaction although no event has finished. Asked behind the barrier."""
        return False

    def seal(self, transaction: InFlightTransaction) -> None:
        """What was done so far belongs to this transaction; what is done from here on belongs to the next one."""

    def committed(self, transaction: InFlightTransaction) -> None:
        """The sealed transaction is committed; the open one may still be lost."""

    def aborted(self, owned: Ownership) -> None:
        """Neither the sealed transaction nor the open one has any effect."""

    def revoked(self) -> None:
        """The partitions go, or the worker ends: begin nothing more of them. `aborted` comes behind it."""
