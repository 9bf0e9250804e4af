"""Commits positions that have moved without an event: behind aborted records and control records, where nothing comes.

A partition that ends in such records would show a lag for as long as nothing else is sent to it, and with it an alert
that nobody can mend. Looked at once a second, so that aborted records that keep coming lead to one commit a second at
most; a position that stands leads to none.
"""

from __future__ import annotations

from streamapp.clock import Clock
from streamapp.engine.engine import Engine

#: Seconds between two looks, and so between two commits for idle partitions.
LOOK_EVERY_S = 1.0


async def commit_idle_positions(engine: Engine, clock: Clock) -> None:
    """Look at the positions once a second, until cancelled."""
    while True:
        await clock.sleep(LOOK_EVERY_S)
        if engine.is_idle and engine.has_moved():
            engine.request_commit()
