"""`WINDOW_IDLE` with two workers, one of them killed in the middle of closing what a silence has ended.

Nothing but the silence closes these windows: all records lie within the grace of each other. They come in one
transaction, so that no partition is silent before it has all of its records.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import windowed_worker as work
from campaign.cluster import feed_at_once
from campaign.worker import REPOSITORY, Worker, wait_until
from test_windows import taps_of, upserts

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from window_model import of_tables

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(400)]

RECORDS, KEYS = 600, 100
#: Seconds after `work.START` in which all records lie. The first window to end is [0, 30), and has its grace until 35.
FIRST_S, LAST_S = 20, work.HOPPING + work.GRACE - 1
IDLE_S = 1.0
BOUND_S = 90.0
#: A closing takes its time, so that commits fall due in the middle of the closings.
SLOW = {"point": "window.before_final", "action": "sleep", "times": 0, "seconds": 0.01}
KILLED_AT_FINAL = 60
TABLES = (("minutes", work.TUMBLING, work.TUMBLING), ("spans", work.HOPPING, work.STEP))
COMMAND = (sys.executable, str(REPOSITORY / "tests/crash/windowed_worker.py"))


@pytest.mark.parametrize("heir", ["another", "itself"])
def test_a_kill_in_the_middle_of_an_idle_closing_leaves_each_window_one_final(
    place: Any, tmp_path: Path, heir: str
) -> None:
    cluster, app = place.cluster, f"idle-{heir}"
    cluster.make_topics(app, "taps", "minutes", "spans")
    workers: list[Worker] = []

    def start(name: str, *plan: dict[str, Any]) -> Worker:
        log = tmp_path / f"{len(workers)}-{name}.log"
        worker = Worker(
            cluster.bootstrap, app, name, tmp_path, log, plan=plan, command=COMMAND, window_idle=IDLE_S, web_port=0
        )
        workers.append(worker)
        return worker

    try:
        victim = start("victim", SLOW, {"point": "window.before_final", "action": "kill", "nth": KILLED_AT_FINAL})
        other = start("other")
        assert wait_until(lambda: both_own(victim, other), BOUND_S), [it.tail(3) for it in workers]
        feed_at_once(cluster.bootstrap, "taps", taps(heir))
        assert wait_until(lambda: victim.exit_code is not None, BOUND_S), victim.tail(5)
        killed_ms = time.time() * 1000
        if heir == "itself":
            start("victim")

        expected = {name: closed(cluster, size, step) for name, size, step in TABLES}
        in_all = sum(len(windows) for windows in expected.values())
        assert wait_until(lambda: len(finals_of(cluster)) >= in_all, BOUND_S, 0.3), (
            f"{len(finals_of(cluster))}/{in_all}"
        )
        assert [it.stop() for it in workers if it is not victim] == [0] * (len(workers) - 1), [
            it.tail(5) for it in workers
        ]

        for name, windows in expected.items():
            assert upserts(cluster.records([name])) == windows
        assert not cluster.records(["taps-late"])
        assert halved(cluster, killed_ms), "the kill was not in the middle of a partition's closings"
    finally:
        for it in workers:
            it.kill()


def both_own(victim: Worker, other: Worker) -> bool:
    """Whether both have partitions, in one generation."""
    return victim.generation == other.generation > 0


def taps(seed: str) -> Iterator[tuple[str, bytes]]:
    chosen = random.Random(seed)
    for _ in range(RECORDS):
        at = work.START + timedelta(seconds=chosen.randint(FIRST_S, LAST_S))
        value = {"occurred_at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "amount": chosen.randint(-50, 50)}
        yield f"key-{chosen.randrange(KEYS)}", json.dumps(value).encode()


def closed(cluster: Any, size: int, step: int) -> dict[str, list[Any]]:
    """The upserts of each window by the model, and its final."""
    told, late = of_tables(taps_of(cluster.records(["taps"])), size, step, work.GRACE)
    assert not late
    assert not any(upsert[-1] for it in told.values() for upsert in it), "event time closed a window: no silence needed"
    return {window: [*it, (it[-1][0] + 1, *it[-1][1:3], True)] for window, it in told.items()}


def finals_of(cluster: Any) -> list[Any]:
    return [it for it in cluster.records(["minutes", "spans"]) if json.loads(it.value())["final"]]


def halved(cluster: Any, killed_ms: float) -> bool:
    """Whether some partition of the input has finals from before the kill and from after it."""
    source = {it.key().decode(): it.partition() for it in cluster.records(["taps"])}
    sides: dict[int, set[bool]] = defaultdict(set)
    for it in finals_of(cluster):
        key = it.key().decode().partition("|")[0]
        sides[source[key]].add(it.timestamp()[1] <= killed_ms)
    return any(len(it) == 2 for it in sides.values())
