"""The crash points in a test: which were reached, and at which the worker dies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping

from streamapp.errors import ProcessDied
from streamapp.testing.loop import current_process

#: What a worker is doing at each point, in words for whoever reads that an agent of theirs failed there.
POINTS: Mapping[str, str] = {
    "fetch.before_events": "records fetched, none handed to an agent",
    "event.before_effects": "an event at its agent, before any effect",
    "send": "an agent sends a record",
    "window.before_final": "a window was closed, its last upsert is sent",
    "inbox.before_mark": "inbox looked up, mark not written",
    "inbox.after_mark": "inbox mark written, before any effect",
    "commit.while_event_runs": "a commit is due while an agent is in the middle of an event",
    "commit.before_changelog": "events finished, their table changes not in the changelog",
    "commit.before_produce": "outputs in batches, nothing sent",
    "produce.some_acknowledged": "some outputs acknowledged, the others not sent",
    "produce.one_refused": "an output refused by the broker, the others acknowledged",
    "commit.before_offsets": "outputs acknowledged, offsets not",
    "commit.before_end": "outputs and offsets acknowledged, nothing committed",
    "commit.before_store": "committed, not on the worker's disk yet",
    "commit.after_store": "committed and on disk",
    "revoke.before_commit": "partitions are given up, before the commit",
    "revoke.after_commit": "partitions are given up, after the commit",
    "assign.before_offsets": "partitions are taken over, offsets not read",
    "assign.before_restore": "offsets read, tables not restored",
    "restore.half_done": "in the middle of a restore",
    "assign.before_fetch": "tables restored, nothing fetched",
    "inbox.before_expiry": "the inbox lets go of its oldest marks",
    "shutdown.before_commit": "leaving, before the last commit",
}


class Crashed(ProcessDied):
    """The process has died at a crash point."""


class CrashPoints:
    """Counts the points a worker reaches, and kills its process at the planned ones, one after the other."""

    def __init__(self) -> None:
        self.reached: Counter[str] = Counter()
        #: Points and how often each is still to be reached; only the first counts down.
        self._crashes: deque[tuple[str, int]] = deque()
        self._calls: dict[tuple[str, int], Callable[[], None]] = {}

    def crash_at(self, point: str, nth: int = 1) -> None:
        """Kill the worker when it reaches the point for the nth time, after the crashes planned before."""
        self._crashes.append((_known(point), nth))

    def call_at(self, point: str, nth: int, call: Callable[[], None]) -> None:
        """Call something when the point is reached for the nth time in all."""
        self._calls[_known(point), nth] = call

    @property
    def planned(self) -> str | None:
        """The point of the next crash."""
        return self._crashes[0][0] if self._crashes else None

    def failpoint(self, point: str) -> None:
        process = current_process()
        if process is None or process.dead:
            return
        self.reached[point] += 1
        call = self._calls.pop((point, self.reached[point]), None)
        if call is not None:
            call()
        if self._crashes and self._crashes[0][0] == point:
            _, left = self._crashes.popleft()
            if left > 1:
                self._crashes.appendleft((point, left - 1))
            else:
                process.kill()
                raise Crashed(point)

    async def pause(self, point: str) -> None:
        self.failpoint(point)

    def plans(self, point: str) -> bool:
        return True


def _known(point: str) -> str:
    if point not in POINTS:
        raise ValueError(f"There is no crash point {point}. There are: {', '.join(POINTS)}.")
    return point
