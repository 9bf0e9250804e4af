"""The wait for running units before a commit: bounded, with the name of who holds it up."""

from __future__ import annotations

from collections.abc import Sequence

from streamapp.engine.gate import Gate
from streamapp.engine.task import Task
from streamapp.errors import StreamAppError
from streamapp.failpoints import failpoint

#: Part of the transaction time-out that running units have to finish in, once a commit is due.
BARRIER_SHARE = 0.6
#: How often in a row it may be missed before the worker ends.
BARRIERS_MISSED_MAX = 3


class BarrierHeld(StreamAppError):
    """An agent holds up every commit. The worker ends, so that its partitions go to one that can work."""


class Barrier:
    """Waits for the running units before a commit. `bound_s`: seconds that running units have to finish in."""

    def __init__(self, gate: Gate, transaction_timeout_s: float) -> None:
        self.bound_s = transaction_timeout_s * BARRIER_SHARE
        self._gate = gate
        self._missed = 0

    async def reached(self, tasks: Sequence[Task]) -> str | None:
        """Wait behind the closed gate until no unit runs; after `bound_s` say who still does.

        Raises `BarrierHeld` when that has happened too often in a row.
        """
        if self._gate.running:
            failpoint("commit.while_event_runs")
        if await self._gate.drained(self.bound_s):
            self._missed = 0
            return None
        self._missed += 1
        held = [f"{worker.get_name()} at {unit}" for task in tasks for unit in task.running for worker in unit.workers]
        who = ", ".join(held) or "an event that no agent takes"
        why = f"not finished within {self.bound_s:g} s of a commit being due: {who}"
        if self._missed >= BARRIERS_MISSED_MAX:
            raise BarrierHeld(
                f"{BARRIERS_MISSED_MAX} times in a row {why}. Nothing of it was committed, the events run again at "
                "the next start. Bound every wait in the agent below that time, or raise "
                "STREAMAPP_TRANSACTION_TIMEOUT and STREAMAPP_SESSION_TIMEOUT together: the first is at most the second."
            )
        return why
