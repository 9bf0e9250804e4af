"""A service for tests that need a process of its own: numbers the events of each key, out of a table.

Environment: STREAMAPP_ settings; COUNTING_IN and COUNTING_OUT name its topics, COUNTING_REFUSED=1 declares what cannot
be done exactly once, COUNTING_PAUSE is slept in each event (seconds), COUNTING_ENDS=1 raises what ends programs for
some values.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from streamapp.app import App

app = App(autodiscover=False)
inputs = app.topic(os.environ["COUNTING_IN"], value_type=int)
outputs = app.topic(os.environ["COUNTING_OUT"], value_type=str, value_serializer="raw")
counts = app.Table("counts", default=int, help="Events of each key")
if os.environ.get("COUNTING_REFUSED"):
    app.SetTable("members")
    app.GlobalTable("everywhere")


async def ends(value: int) -> None:
    """What ends a program, in the agent's own code and in a task that it awaits."""
    match value:
        case 1:
            sys.exit("of the agent")
        case 2:
            raise KeyboardInterrupt
        case 3:
            await asyncio.create_task(ends(1))
        case 4:
            await asyncio.create_task(ends(2))


@app.agent(inputs)
async def count(stream: Any) -> None:
    """Number each key's events."""
    async for event in stream.events():
        if os.environ.get("COUNTING_ENDS"):
            await ends(event.value)
        counts[event.key] += 1
        await outputs.send(key=event.key, value=f"{event.value} {counts[event.key]}")
        await asyncio.sleep(float(os.environ.get("COUNTING_PAUSE", "0")))
