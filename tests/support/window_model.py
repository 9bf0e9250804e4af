"""What windows must do, in a few lines: no rows, no next end, no bound; every window is asked after every record."""

from __future__ import annotations

from typing import Any, NamedTuple


class Told(NamedTuple):
    """An upsert: the window of a key with the values that counted in it."""

    key: Any
    start: int
    end: int
    values: list[Any]
    final: bool


class WindowModel:
    """One partition. Times are of any unit; `every` is the watermark between two upserts of a window, None: finals."""

    def __init__(self, size: int, step: int, grace: int, every: int | None = 0) -> None:
        self.size, self.step, self.grace, self.every = size, step, grace, every
        self.watermark = -1
        #: (end, start, key) -> values; a window is gone once it has its final.
        self.open: dict[tuple[int, int, Any], list[Any]] = {}
        self.told_at: dict[tuple[int, int, Any], int] = {}
        self.upserts: list[Told] = []
        #: The record's number and the windows it was too late for.
        self.expired: list[tuple[int, list[tuple[int, int]]]] = []

    def record(self, number: int, key: Any, time: int, value: Any) -> None:
        self.watermark = max(self.watermark, time)
        self.close(self.watermark - self.grace)
        expired = []
        for start in range(time - self.size + 1, time + 1):
            if start % self.step == 0:
                if start + self.size + self.grace <= self.watermark:
                    expired.append((start, start + self.size))
                    continue
                window = (start + self.size, start, key)
                values = self.open[window] = [*self.open.get(window, []), value]
                if self._tells(window):
                    self.told_at[window] = self.watermark
                    self.upserts.append(Told(key, start, start + self.size, values, False))
        if expired:
            self.expired.append((number, expired))

    def _tells(self, window: tuple[int, int, Any]) -> bool:
        if self.every is None:
            return False
        return window not in self.told_at or self.watermark - self.told_at[window] >= self.every

    def close(self, until: float) -> None:
        """Every window that ends then or before has its final."""
        for end, start, key in sorted(self.open):
            if end <= until:
                self.upserts.append(Told(key, start, end, self.open.pop((end, start, key)), True))
