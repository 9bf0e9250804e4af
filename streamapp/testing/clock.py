"""The clock of a simulated machine: the virtual loop's time, with a wall clock that may be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

#: 2026-01-01T00:00:00Z. Any fixed instant would do; a run must not depend on the day it is made.
EPOCH_S = 1_767_225_600.0


class VirtualClock:
    """A `Clock` on the running loop's time. `skew_s` makes the wall clock jump; the monotonic one never does."""

    def __init__(self, skew_s: float = 0.0) -> None:
        self.skew_s = skew_s

    def now(self) -> float:
        return EPOCH_S + asyncio.get_running_loop().time() + self.skew_s

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def sleep(self, seconds: float) -> Awaitable[None]:
        return asyncio.sleep(seconds)
