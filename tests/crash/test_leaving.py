"""A worker that leaves in good order, with much fetched and not started, skips nothing of it."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from campaign import compare
from campaign.cluster import Feed
from campaign.transfers import transfers
from campaign.worker import Worker, wait_until
from streamapp.audit import audit

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(400)]

BACKLOG = 2000
#: Longer than anything here takes, on a loaded machine too.
BOUND_S = 90.0
#: The first worker takes its time, so that there is much it has fetched and not started.
SLOW = [{"point": "send", "action": "sleep", "times": 0, "seconds": 0.002}]


@pytest.mark.parametrize("leaves_by", ["drain", "rebalance"])
def test_what_was_fetched_and_not_started_is_read_by_the_next_owner(place: Any, tmp_path: Path, leaves_by: str) -> None:
    cluster, app = place.cluster, f"leaving-{leaves_by}"
    cluster.make_topics(app)
    inputs = transfers(random.Random(leaves_by), BACKLOG)
    feed = Feed(cluster.bootstrap, inputs, 1000, 0)
    feed.first(BACKLOG)

    def worker(name: str, plan: Any = ()) -> Worker:
        log = tmp_path / f"{name}.log"
        return Worker(cluster.bootstrap, app, name, tmp_path, log, plan=plan)

    workers = [worker("first", SLOW)]
    try:
        assert wait_until(lambda: sum(cluster.committed(app).values()) > 0, BOUND_S, 0.01)
        if leaves_by == "drain":
            workers[0].signal(signal.SIGTERM)
            assert wait_until(lambda: workers[0].exit_code is not None, BOUND_S)
            assert workers[0].exit_code == 0, workers[0].tail()
            assert sum(cluster.committed(app).values()) < BACKLOG, "it had nothing left to skip"
        workers.append(worker("second"))
        report = audit({"bootstrap.servers": cluster.bootstrap}, group=app, wait_s=BOUND_S)
        assert report.verdict == "PASS", report.reasons
        assert [it.stop() for it in workers if it.exit_code is None].count(0) == 2 - (leaves_by == "drain")
        states = list(dict.fromkeys(it.state for it in workers))
        assert not compare.problems(cluster, app, inputs, states, len(states), keeps_marks=True)
    finally:
        for it in workers:
            it.kill()
