"""An abort of what is open, at the moment a test wants it."""

from __future__ import annotations

from streamapp.engine.commit_cycle import CycleEvent
from streamapp.engine.engine import Engine


async def abort_transaction(engine: Engine, why: str = "the test wants it") -> None:
    """Abort the open transaction of a running worker, as a commit that fails does; its events run again."""
    committer = engine.committer
    async with committer._lock:
        committer.cycle.apply(CycleEvent.REQUESTED)
        await committer._abort(why)
