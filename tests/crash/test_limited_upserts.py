"""`upsert_to(emit_every=)` with two workers, one killed in the middle of a commit: no count twice, the last always."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from campaign.cluster import feed_at_once
from campaign.worker import REPOSITORY, Worker, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(400)]

TAPS, KEYS = 800, 40
BOUND_S = 90.0
COMMAND = (sys.executable, str(REPOSITORY / "tests/crash/limited_worker.py"))
#: All taps are there at once, and go with the first commit; the second is of the rows that were held back.
KILLED_AT_COMMIT = 2


def test_a_kill_repeats_no_upsert_and_loses_no_last_one(place: Any, tmp_path: Path) -> None:
    cluster, app = place.cluster, "limited"
    cluster.make_topics(app, "taps", "counts-now")
    chosen = random.Random(7)
    keys = [f"key-{chosen.randrange(KEYS)}" for _ in range(TAPS)]
    plan = [{"point": "commit.before_end", "action": "kill", "nth": KILLED_AT_COMMIT}]
    workers = [
        Worker(cluster.bootstrap, app, name, tmp_path, tmp_path / f"{name}.log", plan=its, command=COMMAND, web_port=0)
        for name, its in (("victim", plan), ("other", []))
    ]
    victim, other = workers
    try:
        assert wait_until(lambda: victim.generation == other.generation > 0, BOUND_S), [it.tail(3) for it in workers]
        feed_at_once(cluster.bootstrap, "taps", ((key, b"{}") for key in keys))
        assert wait_until(lambda: victim.exit_code is not None, BOUND_S), victim.tail(5)
        wanted = Counter(keys)
        assert wait_until(lambda: {key: sent[-1] for key, sent in upserts(cluster).items()} == wanted, BOUND_S, 0.3), (
            wanted, upserts(cluster),
        )  # fmt: skip
        assert other.stop() == 0, other.tail(5)
        found = upserts(cluster)
        assert {key: sent[-1] for key, sent in found.items()} == wanted
        for key, sent in found.items():
            assert sent == sorted(set(sent)), f"{key}: an upsert came twice, or late: {sent}"
        assert sum(map(len, found.values())) < TAPS / 2, "most counts were never to be seen"
    finally:
        for it in workers:
            it.kill()


def upserts(cluster: Any) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for message in cluster.records(["counts-now"]):
        found[message.key().decode()].append(json.loads(message.value()))
    return found
