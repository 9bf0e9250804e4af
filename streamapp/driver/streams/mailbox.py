"""What a task hands to one actor of an agent, and how the actor waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from streamapp.engine.unit import Unit


class Mailbox:
    """A queue with one reader. Bounded by the tasks: each lane of a task has at most one unit in it."""

    __slots__ = ("_waiter", "inbox", "items")

    def __init__(self) -> None:
        #: (unit, delivery), or (unit, [deliveries]) for an actor that takes batches.
        self.items: deque[tuple[Unit, Any]] = deque()
        #: Of the actor, so that those who read ahead for it may ask ahead for marks, too.
        self.inbox: Any = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, unit: Unit, item: Any) -> None:
        self.items.append((unit, item))
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Until there is an item."""
        while not self.items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
