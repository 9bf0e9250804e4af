"""The broker refuses what an event led to: only the event at fault becomes a dead letter, and the worker goes on."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from campaign.cluster import Feed
from campaign.transfers import Input, transfers
from campaign.worker import Worker, wait_until
from streamapp.audit import audit

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(400)]

#: Longer than anything here takes, on a loaded machine too.
BOUND_S = 90.0
#: A worker that is never told a topic's new limits (they are asked for after a refusal, and may come too late): what
#: the broker refuses then passes every check before.
NEVER_LEARNS = """
from streamapp.eos.producer import Producer
async def refresh(self, topic): pass

assert hasattr(Producer, "refresh")
Producer.refresh = refresh
from streamapp.cli.main import main
main()
"""


def worked(place: Any, directory: Path, app: str, *command: str, **settings: object) -> list[Input]:
    """One worker over some input, with these settings of `transfer-rejected` changed when it runs; ends it."""
    cluster = place.cluster
    cluster.make_topics(app)
    inputs = transfers(random.Random(app), 260, repeats=False)  # what failed runs again when it is repeated
    feed = Feed(cluster.bootstrap, inputs, 400, 0)
    feed.first(60)
    options: dict[str, Any] = {"command": (sys.executable, "-c", *command)} if command else {}
    worker = Worker(cluster.bootstrap, app, "worker", directory, directory / "worker.log", **options)
    try:
        assert wait_until(lambda: sum(cluster.committed(app).values()) > 0, BOUND_S)
        cluster.configure("transfer-rejected", **settings)
        feed.start()
        feed.join()
        consumed = wait_until(
            lambda: sum(n for (topic, _), n in cluster.committed(app).items() if topic == "transfer") >= len(inputs),
            BOUND_S,
        )
        assert consumed, worker.tail()
        report = audit({"bootstrap.servers": cluster.bootstrap}, group=app, wait_s=BOUND_S)
        assert report.verdict != "UNKNOWN", report.reasons
        assert worker.stop() == 0, worker.tail()
        assert "refused" in worker.log.read_text(), "the broker refused nothing"
    finally:
        worker.kill()
    return inputs


def test_events_that_are_fine_alone_are_not_dead_lettered(place: Any, tmp_path: Path) -> None:
    worked(place, tmp_path, "refused-together", max_message_bytes=600)
    report = audit({"bootstrap.servers": place.cluster.bootstrap}, group="refused-together")
    assert report.verdict == "PASS", report.reasons


def test_an_event_that_is_refused_alone_is_dead_lettered_and_no_other(place: Any, tmp_path: Path) -> None:
    """Every rejection is too large for its topic: the transfers that lead to one are dead letters, others post."""
    inputs = worked(place, tmp_path, "refused-alone", NEVER_LEARNS, max_message_bytes=250)
    letters: Counter[bytes] = Counter()
    refused: set[str] = set()
    legs: Counter[str] = Counter()
    for message in place.cluster.records(["transfer-dlt", "balances", "transfer-rejected"]):
        if message.topic() == "balances":
            legs[json.loads(message.value())["event_id"]] += 1
        elif message.topic() == "transfer-rejected":  # from before
            refused.add(json.loads(message.value())["transfer_id"])
        else:
            letters[message.value()] += 1
    assert any(message_is_ours(message) for message in place.cluster.records(["transfer-dlt"]))
    report = audit({"bootstrap.servers": place.cluster.bootstrap}, group="refused-alone")
    assert report.verdict == "PASS", report.reasons
    assert any("too large for a topic" in note for note in report.notes), report.notes
    for item in inputs:
        outcomes = (legs[f"{item.event_id}:debit"], legs[f"{item.event_id}:credit"], letters[item.value])
        if item.bad:
            assert letters[item.value] == 1, item
        elif item.event_id not in refused:
            assert outcomes in ((1, 1, 0), (0, 0, 1)), item


def message_is_ours(message: Any) -> bool:
    """A dead letter because of what the broker refused."""
    return dict(message.headers())["dlt-exception-fqcn"] == b"OutputRefused"
