"""Waiting between repetitions of one request: how often, how long at most, and what a person reads meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from streamapp.clock import Clock
from streamapp.errors import StreamAppError, Unavailable

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

_SHORTEST_S = 0.005
_LONGEST_S = 1.0
#: Nothing is said about waits shorter than this; after it a line, and one each time the wait has doubled.
_QUIET_S = 1.0


class Backoff:
    """The pauses of one request that is repeated unchanged.

    `what` completes "Still ..." and "Gave up ...", such as "asking for the committed offsets". `limit_s`: seconds
    after which `pause()` raises `on_limit` with the last reason; without a limit it goes on until it is cancelled.
    """

    def __init__(
        self, clock: Clock, what: str, *, limit_s: float | None = None, on_limit: type[StreamAppError] = StreamAppError
    ) -> None:
        self._clock = clock
        self._what = what
        self._limit_s = limit_s
        self._on_limit = on_limit
        self._began = clock.monotonic()
        self._pause_s = _SHORTEST_S
        self._silent_until_s = _QUIET_S

    @property
    def waited_s(self) -> float:
        return self._clock.monotonic() - self._began

    async def pause(self, reason: str) -> None:
        """Sleep twice as long as the last time, up to a second. Raises `on_limit` when the time is up."""
        reason = reason.rstrip(".")
        waited = self.waited_s
        if self._limit_s is not None and waited >= self._limit_s:
            raise self._on_limit(f"Gave up {self._what} after {waited:.1f} s: {reason}.")
        if waited >= self._silent_until_s:
            self._silent_until_s = waited * 2
            log.warning("Still %s after %.1f s: %s.", self._what, waited, reason)
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, _LONGEST_S)
        await self._clock.sleep(pause_s if self._limit_s is None else min(pause_s, self._limit_s - waited))

    def extend(self) -> None:
        """The time so far does not count against the limit."""
        self._began = self._clock.monotonic()

    def progressed(self) -> None:
        """Something moved: the limit and the pauses begin again."""
        self.extend()
        self._pause_s = _SHORTEST_S
        self._silent_until_s = _QUIET_S


async def available(patience: Backoff, ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """What `ask` returns, asked again as long as it raises `Unavailable` and the patience lasts."""
    while True:
        try:
            return await ask()
        except Unavailable as exc:
            await patience.pause(str(exc))
