"""Kinds of windows: in which windows an instant is. Times are milliseconds since the epoch; windows are `[start, end)`.

    tumbling 60        |---------|---------|---------|          one window an instant
    hopping 60, 20     |---------|                              size / step windows an instant
                          |---------|
                             |---------|

A kind decides and nothing else: closing, lateness and emission (`book.py`) know only what it answers. One whose
windows grow with their events (sessions) says which open windows a new one absorbs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from streamapp.errors import ConfigurationError

#: Longest window: the ends of windows must be times that can be written down.
SIZE_MAX_MS = 100 * 366 * 86_400_000
#: Most windows one instant may be in: each is a row and an upsert of every record.
WINDOWS_MAX = 1000


class Window(NamedTuple):
    """`[start, end)`; `end` is the first instant that is not in it."""

    start: int
    end: int


class WindowAssignment(NamedTuple):
    """A window that a record counts in, and the open windows of its key that become part of it."""

    window: Window
    absorbs: tuple[Window, ...] = ()


#: The open windows of the record's key that share an instant with `[start, end]`, or touch it.
Near = Callable[[int, int], Sequence[Window]]


class Windower(Protocol):
    """Assigns an event time to windows."""

    @property
    def reach_ms(self) -> int:
        """No window of an instant ends later than this after it."""

    def place(self, time: int, near: Near) -> Sequence[WindowAssignment]:
        """The windows of a record of this time, by their end. Must not depend on anything but its arguments."""


class Hopping:
    """Windows of `size_ms` that begin at every multiple of `step_ms`."""

    def __init__(self, size_ms: int, step_ms: int) -> None:
        if size_ms < 1 or step_ms < 1:
            raise ConfigurationError(f"windows of {size_ms} ms, one every {step_ms} ms: both must be at least 1 ms.")
        if step_ms > size_ms:
            raise ConfigurationError(
                f"windows of {size_ms} ms that begin every {step_ms} ms leave gaps, whose records would count nowhere. "
                "Make the step at most the size."
            )
        if size_ms > SIZE_MAX_MS:
            raise ConfigurationError(
                f"windows of {size_ms} ms: at most a hundred years, {SIZE_MAX_MS} ms, are allowed."
            )
        if size_ms > WINDOWS_MAX * step_ms:
            raise ConfigurationError(
                f"windows of {size_ms} ms that begin every {step_ms} ms: each record would be in {size_ms // step_ms:,}"
                f" of them, and {WINDOWS_MAX:,} are allowed. Make the step larger."
            )
        self.size_ms = size_ms
        self.step_ms = step_ms

    @property
    def reach_ms(self) -> int:
        return self.size_ms

    def place(self, time: int, near: Near) -> Sequence[WindowAssignment]:
        size, step = self.size_ms, self.step_ms
        first = ((time - size) // step + 1) * step  # the first start whose window still has the instant
        return [WindowAssignment(Window(start, start + size)) for start in range(first, time + 1, step)]


class Tumbling(Hopping):
    """Windows of `size_ms`, one after the other: hopping by their own size."""

    def __init__(self, size_ms: int) -> None:
        super().__init__(size_ms, size_ms)

    def place(self, time: int, near: Near) -> Sequence[WindowAssignment]:
        start = time - time % self.size_ms
        return (WindowAssignment(Window(start, start + self.size_ms)),)
