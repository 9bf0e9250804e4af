"""Seeded clicks and what must come of them: repeats, late ones and poison among them, and a model of a few lines.

Clicks are sent in this order by one idempotent producer, so their order in each partition is known, and with it the
watermark at each of them.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from aiokafka.partitioner import murmur2

STEP_S, SIZE_S, GRACE_S = 60, 300, 10
#: Of all records.
REPEATED, LATE, POISON = 0.05, 0.01, 0.001
#: How far event times are out of order; less than the grace, so that only late clicks are late.
JITTER_S = 8
_ADVERTISERS, _PUBLISHERS = 40, 200
_REPEATS_WITHIN = 20_000


class Click(NamedTuple):
    """A record for `ad-click`."""

    key: bytes
    value: bytes


class Oracle:
    """Makes the input, and keeps count of what it must lead to."""

    def __init__(self, seed: int, records: int, partitions: int, end_s: float, span_s: float) -> None:
        self._random = random.Random(seed)
        self._records, self._partitions = records, partitions
        self._begin_s, self._span_s = end_s - span_s, span_s
        self._watermarks: dict[int, float] = defaultdict(lambda: -1.0)
        self._recent: deque[Click] = deque(maxlen=_REPEATS_WITHIN)
        #: By advertiser and start of the window: count and amount.
        self.windows: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
        self.made: Counter[str] = Counter()  # by kind
        self.amount = 0  # minor units: every distinct click's cpc
        self.late = 0  # clicks that some window was closed for

    def records(self) -> Iterator[Click]:
        """The input, to be sent in this order; the last ones close every window of the others."""
        for number in range(self._records):
            yield self._one(number)
        closing = self._begin_s + self._span_s + SIZE_S + GRACE_S + STEP_S
        for partition in range(self._partitions):
            name = next(it for it in map("closing-{}".format, range(1000)) if self._partition(it) == partition)
            yield self._click(f"closing-{partition}", name, closing, 1)

    @property
    def finals(self) -> dict[tuple[str, int], tuple[int, int]]:
        """The windows that are closed at the end, with count and amount."""
        return {
            (name, start): (count, amount)
            for (name, start), (count, amount) in self.windows.items()
            if start + SIZE_S + GRACE_S <= self._watermarks[self._partition(name)]
        }

    @property
    def distinct(self) -> int:
        """Clicks that are charged."""
        return self.made["fresh"] + self.made["late"]

    def _one(self, number: int) -> Click:
        chance, now = self._random.random(), self._begin_s + self._span_s * number / self._records
        if chance < POISON:
            return self._poison(number, now)
        if chance < POISON + REPEATED and self._recent:
            self.made["repeated"] += 1
            return self._random.choice(self._recent)
        behind = self._random.uniform(0, JITTER_S)
        if chance < POISON + REPEATED + LATE:
            behind = self._random.uniform(JITTER_S + GRACE_S + STEP_S, 3 * SIZE_S)
        advertiser = f"adv-{self._random.randrange(_ADVERTISERS)}"
        return self._click(f"c-{number}", advertiser, max(self._begin_s, now - behind), self._random.randint(1, 500))

    def _click(self, event_id: str, advertiser: str, time: float, cpc: int) -> Click:
        """A new click, counted."""
        time = round(time, 3)
        partition = self._partition(advertiser)
        watermark = self._watermarks[partition]
        expired = self._count(advertiser, time, cpc, watermark)
        self._watermarks[partition] = max(watermark, time)
        self.made["late" if expired else "fresh"] += 1
        self.late += expired
        self.amount += cpc
        made = self._encoded(event_id, advertiser, time, cpc)
        self._recent.append(made)
        return made

    def _count(self, advertiser: str, time: float, cpc: int, watermark: float) -> bool:
        """Count it in the windows that are open; whether one is closed."""
        expired = False
        for start in range(int((time - SIZE_S) // STEP_S + 1) * STEP_S, int(time) + 1, STEP_S):
            if start + SIZE_S + GRACE_S <= watermark:
                expired = True
                continue
            window = self.windows[advertiser, start]
            window[0] += 1
            window[1] += cpc
        return expired

    def _encoded(self, event_id: str, advertiser: str, time: float, cpc: object) -> Click:
        moment = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {
            "event_id": event_id, "ad_id": f"ad-{self._random.randrange(500)}", "advertiser_id": advertiser,
            "publisher_id": f"pub-{self._random.randrange(_PUBLISHERS)}", "cpc": cpc, "occurred_at": moment,
        }  # fmt: skip
        return Click(advertiser.encode(), json.dumps(fields).encode())

    def _poison(self, number: int, now: float) -> Click:
        """A record that belongs in the dead-letter topic."""
        self.made["poison"] += 1
        key, value = self._encoded(f"p-{number}", "adv-1", now, self._random.choice([0, -5, "7", 1.5, 1 << 70]))
        return self._random.choice(
            [Click(key, value), Click(key, b"{" + value), Click(key, b"\xff\x00"), Click(b"adv-2", value)]
        )

    def _partition(self, name: str) -> int:
        return int(murmur2(name.encode()) & 0x7FFFFFFF) % self._partitions
