"""How far a task's windows have come: the watermark, and up to where they are closed. Neither ever goes back."""

from __future__ import annotations

import struct
from typing import NamedTuple

#: No window ends here.
NEVER = (1 << 48) - 1

_LAYOUT = struct.Struct(">qqqq")


class Progress(NamedTuple):
    """One row of a task's table; times in milliseconds since the epoch.

    A window is closed if and only if it ends at `closed_until` or before, whether or not anybody ever counted in it.
    That its row is still among the open ones means only that its final is yet to be sent.
    """

    #: The highest event time seen; -1: none yet.
    watermark: int = -1
    closed_until: int = 0
    #: No open window ends before this, and no kept one.
    next_end: int = NEVER
    next_kept: int = NEVER

    @property
    def is_due(self) -> bool:
        """Whether windows are closed whose finals are not sent."""
        return self.next_end <= self.closed_until

    def seen(self, time: int, grace_ms: int) -> Progress:
        """After a record of this time: windows that ended a grace ago are closed."""
        if time <= self.watermark:
            return self
        return self._replace(watermark=time, closed_until=max(self.closed_until, time - grace_ms))

    def silent(self, reach_ms: int) -> Progress:
        """After a silence that is taken for the end: every window that has begun is closed."""
        return self._replace(closed_until=max(self.closed_until, self.watermark + reach_ms))

    def pack(self) -> bytes:
        return _LAYOUT.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes) -> Progress:
        """The progress in `raw`. `ValueError` when it is none: the table belongs to something else."""
        try:
            return cls(*_LAYOUT.unpack(raw))
        except struct.error as exc:
            raise ValueError(f"{raw[:40]!r} is no watermark of windows: {exc}") from None
