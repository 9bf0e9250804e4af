"""When a commit is due: after the interval, or when enough has finished. Pure but for the clock it looks at."""

from __future__ import annotations

from collections.abc import Callable

#: Finished units between two looks at the clock.
_CLOCK_EVERY = 32
_NEVER = float("inf")
#: A commit that begins this little after it was due is on time, in seconds.
_PUNCTUAL_S = 0.002


class CommitSchedule:
    """Counts what has finished since the last seal. `monotonic` is the clock's; limits as the settings have them."""

    def __init__(
        self, monotonic: Callable[[], float], interval_s: float, events_max: int | None, bytes_max: int
    ) -> None:
        #: Units finished since the last seal.
        self.finished = 0
        self._monotonic = monotonic
        self._interval_s = interval_s
        self._events_max = events_max or 0
        self._bytes_max = bytes_max
        self._due_at = _NEVER
        self._stopped_at = -_NEVER

    @property
    def running(self) -> bool:
        """Whether the interval has begun."""
        return self._due_at != _NEVER

    def begin(self) -> float:
        """The first work since the last commit is there. Returns when it is due, monotonic.

        Under steady work a commit is due an interval after the last one was, or began where it was late, however long
        that one took; after a pause the interval begins with the work.
        """
        now = self._monotonic()
        steady = self._stopped_at + self._interval_s
        self._due_at = steady if steady > now else now + self._interval_s
        return self._due_at

    def due_in_s(self) -> float:
        """Seconds until the interval ends; infinite while none is running."""
        return self._due_at - self._monotonic()

    def is_due(self, byte_count: int) -> bool:
        """One more unit has finished, and so many bytes wait: whether to commit now."""
        self.finished += 1
        if self.is_full(byte_count):
            return True
        return not self.finished % _CLOCK_EVERY and self._monotonic() >= self._due_at

    def is_full(self, byte_count: int) -> bool:
        """Whether as much has finished as one transaction may hold."""
        return byte_count >= self._bytes_max or bool(self._events_max and self.finished >= self._events_max)

    def stop(self) -> None:
        """A commit begins, or there is nothing to commit any more."""
        now = self._monotonic()
        # A timer rings up to a millisecond late, which would be added to every interval.
        is_punctual = self._due_at <= now < self._due_at + _PUNCTUAL_S
        self._stopped_at = self._due_at if is_punctual else now
        self._due_at = _NEVER

    def reset(self) -> None:
        """What had finished is sealed, or given up."""
        self.finished = 0
