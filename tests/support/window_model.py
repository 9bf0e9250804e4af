"""What windows must do, in a few lines: no rows, no next end, no bound; every window is asked after every record."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable
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


class Tap(NamedTuple):
    """A record as it is in its topic; `amount` None: nobody can add it up."""

    partition: int
    offset: int
    key: str
    second: int
    amount: int | None


def of_tables(
    taps: Iterable[Tap], size: int, step: int, grace: int
) -> tuple[dict[str, list[Any]], list[tuple[int, int, str]]]:
    """What a table of count and amount must have sent, in seconds: (revision, count, amount, final) of each key's
    upserts, and (partition, offset, windows) of the late records.
    """
    models: dict[int, WindowModel] = defaultdict(lambda: WindowModel(size, step, grace))
    for tap in sorted(taps):
        if tap.amount is not None:
            models[tap.partition].record(tap.offset, tap.key, tap.second, tap.amount)
    told: dict[str, list[Any]] = defaultdict(list)
    for model in models.values():
        for key, start, _, values, final in model.upserts:
            of_window = told[f"{key}|{instant(start)}"]
            of_window.append((len(of_window) + 1, len(values), sum(values), final))
    late = [
        (number, offset, ",".join(f"{instant(start)}/{instant(end)}" for start, end in windows))
        for number, model in models.items()
        for offset, windows in model.expired
    ]
    return dict(told), sorted(late)


def instant(second: int) -> str:
    """RFC 3339 text of seconds since the epoch."""
    return f"{datetime.datetime.fromtimestamp(second, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def second(text: str) -> int:
    """And back."""
    return int(datetime.datetime.fromisoformat(text).timestamp())
