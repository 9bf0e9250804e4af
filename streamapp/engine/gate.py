"""The commit's barrier: closed, no unit starts; once the last running one has finished, the commit is alone."""

from __future__ import annotations

import asyncio


class Gate:
    """Counts the units that run. One commit at a time closes it, waits until it is drained and opens it again."""

    def __init__(self) -> None:
        self.is_open = False
        #: One unit a commit: the first that enters closes the gate behind it.
        self.single = False
        #: A commit is in flight: whoever runs one event after the other gives the event loop its turns more often.
        self.hurried = False
        self.running = 0
        self._drained: asyncio.Future[None] | None = None
        self._opened = asyncio.Event()

    def enter(self) -> None:
        """A unit starts. Only while open."""
        assert self.is_open, "a unit started behind a closed gate"
        self.running += 1
        if self.single:
            self.close()

    def leave(self) -> None:
        """A unit is over, finished or dropped."""
        assert self.running > 0, "a unit ended that never started"
        self.running -= 1
        if not self.running and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def close(self) -> None:
        """No unit starts from here on."""
        self.is_open = False
        self._opened.clear()

    def open(self) -> None:
        """Units may start again."""
        self.is_open = True
        self._opened.set()

    def reset(self) -> None:
        """Forget the running units: they were given up, and what they still do has no effect."""
        self.running = 0
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def drained(self, timeout_s: float) -> bool:
        """Wait until no unit runs; False when some still do after `timeout_s` seconds."""
        if not self.running:
            return True
        self._drained = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._drained
        except TimeoutError:
            return False
        finally:
            self._drained = None
        return True

    async def entered(self) -> None:
        """Wait until the gate is open, and enter."""
        while not self.is_open:
            await self._opened.wait()
        self.enter()
