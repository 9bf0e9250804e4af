"""When commits were due, when they were made and how long they took: one call a commit, read by the web views."""

from __future__ import annotations

from streamapp.clock import Clock
from streamapp.engine.ownership import Ownership
from streamapp.engine.participant import InFlightTransaction, Order, Participant
from streamapp.metrics import Histogram


class CommitStats(Participant):
    """The commits of one worker."""

    order = Order.STATISTICS

    def __init__(self, clock: Clock) -> None:
        #: Seconds from the barrier to the stores.
        self.latency = Histogram()
        #: Wall clock: when the stores last caught up with Kafka, by a commit or by the restore of an assignment.
        self.caught_up_at = clock.now()
        self._clock = clock
        self._due_at: float | None = None
        self._sealed_due_at: float | None = None

    def due(self, at: float) -> None:
        """Something waits to be committed at this time (monotonic), unless something waits already."""
        if self._due_at is None:
            self._due_at = at

    def seal(self, transaction: InFlightTransaction) -> None:
        """What waits is in flight; what comes now waits for the next commit."""
        self._sealed_due_at, self._due_at = self._due_at, None

    def settled(self) -> None:
        """Nothing waits any more: it was committed, or dropped."""
        self._due_at = self._sealed_due_at = None

    def aborted(self, owned: Ownership) -> None:
        self.settled()

    def committed(self, transaction: InFlightTransaction) -> None:
        """The commit is made, and the stores have it."""
        self._sealed_due_at = None
        self.latency.observe(self._clock.monotonic() - transaction.began_at)
        self.caught_up_at = self._clock.now()

    def caught_up(self) -> None:
        """The stores of an assignment are complete."""
        self.caught_up_at = self._clock.now()

    @property
    def overdue_s(self) -> float:
        """How long a commit has been due for; 0 when none is."""
        due_at = self._due_at if self._sealed_due_at is None else self._sealed_due_at
        return 0.0 if due_at is None else max(0.0, self._clock.monotonic() - due_at)
