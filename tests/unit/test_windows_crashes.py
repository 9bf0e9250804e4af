"""Windows of a real worker on the broker in memory: crashes, lost disks and rebalances by seed, against the model.

What `tests/crash/test_windows.py` shows on Kafka with real processes, here in many orders. WINDOW_CRASH_SEED= runs one
seed, WINDOW_CRASH_SEEDS= more of them.
"""

from __future__ import annotations

import os
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import windowed_worker as work
from streamapp.testing.bench import Bench

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from window_model import Tap, of_tables, second

ONE = os.environ.get("WINDOW_CRASH_SEED")
SEEDS = [int(ONE)] if ONE else range(int(os.environ.get("WINDOW_CRASH_SEEDS", "16")))
POINTS = (
    "event.before_effects",
    "commit.before_changelog",
    "commit.before_produce",
    "commit.before_offsets",
    "commit.before_end",
    "commit.before_store",
    "commit.after_store",
    "window.before_final",
    "window.before_final",
    "window.before_final",
)
#: Records, and how many are fed at once.
RECORDS, AT_ONCE = 240, 30
PARTITIONS = 2


def upserts(bench: Bench, topic: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for record in bench.records(topic):
        value = record.value
        found[str(record.key)].append((value["revision"], value["count"], value["amount"], value["final"]))
    return dict(found)


def late(bench: Bench, table: str) -> list[Any]:
    headers = [(record.partition, record.headers) for record in bench.records("taps-late")]
    return sorted(
        (number, int(of["late-original-offset"]), of["late-windows"])
        for number, of in headers
        if of["late-table"] == table
    )


def run(bench: Bench, random_: random.Random) -> None:
    """Feed the taps in portions, with a crash or a rebalance somewhere in most of them."""
    bench.settle()
    taps = list(work.taps(random_, RECORDS))
    for first in range(0, RECORDS, AT_ONCE):
        chance = random_.random()
        if chance < 0.6:
            bench.loses_its_disk = random_.random() < 0.4
            bench.crash_at(random_.choice(POINTS), random_.randint(1, 6))
        if 0.4 < chance < 0.8:  # some visits come while the worker dies
            bench.rebalance_at(
                "window.before_final", bench.points.reached["window.before_final"] + random_.randint(1, 4)
            )
        for key, value in taps[first : first + AT_ONCE]:
            bench.feed("taps", value, key=key)
        bench.settle()
        assert len(bench.app.engine.owners if bench.app.engine else ()) == PARTITIONS, "a visitor has the others"
    bench.advance(5)  # what the last units left to be closed is closed between events


@pytest.mark.parametrize("seed", SEEDS)
def test_every_upsert_is_the_models_whatever_happens_to_the_worker(seed: int) -> None:
    random_ = random.Random(seed)
    with Bench(
        "windowed_worker:app", seed=seed, partitions=PARTITIONS, commit_events=random_.choice([3, 10, 1000])
    ) as bench:
        run(bench, random_)
        taps = [
            Tap(it.partition, it.offset, str(it.key), second(it.value["occurred_at"]), _amount(it.value["amount"]))
            for it in bench.records("taps")
        ]
        again = f"WINDOW_CRASH_SEED={seed} pytest {__file__}"
        for table, size, step in (
            ("minutes", work.TUMBLING, work.TUMBLING),
            ("spans", work.HOPPING, work.STEP),
        ):
            expected, expired = of_tables(taps, size, step, work.GRACE)
            assert upserts(bench, table) == expected, again
            assert late(bench, table) == expired, again
        assert len(bench.dead_letters("taps")) == sum(tap.amount is None for tap in taps), again


def _amount(found: Any) -> int | None:
    return None if found == work.UNREADABLE else found
