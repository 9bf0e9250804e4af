"""`streamapp check` on a real broker: nothing found where all is right, and each thing that is wrong with its fix."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

from streamapp.errors import Unavailable
from streamapp.ops import topics
from streamapp.ops.check import check
from streamapp.settings import Settings, load
from streamapp.state import StateDirectory
from streamapp.topics import Declared

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: Any, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a service whose topics are this test's own."""
    monkeypatch.setattr("streamapp.topics.CONTRACT", (Declared(f"{topic_prefix}-in", consumed=True),))
    return load(broker=kafka.bootstrap, id=topic_prefix, instance="one", datadir=tmp_path / "state", partitions=2)


async def problems(settings: Settings) -> dict[str, str]:
    return {finding.check: "\n".join(finding.problems) for finding in await check(settings) if not finding.passed}


async def test_nothing_is_found_where_all_is_right(settings: Settings) -> None:
    assert await problems(settings) == {}
    topics.apply(settings)
    assert await problems(settings) == {}
    assert len(await check(settings)) == 7


async def test_a_topic_with_other_partitions_and_stamps_is_named_with_what_to_do(settings: Settings) -> None:
    admin = AdminClient({"bootstrap.servers": settings.broker})
    (created,) = admin.create_topics([NewTopic(f"{settings.id}-in", 3, 1)]).values()
    created.result(60)
    (text,) = (await problems(settings)).values()
    assert f"{settings.id}-in: partitions is 3, not 2" in text
    assert "message.timestamp.type is CreateTime, not LogAppendTime" in text
    assert "topics apply" in text


async def test_time_outs_beyond_the_brokers_are_named(settings: Settings) -> None:
    slow = settings.model_copy(update={"transaction_timeout": 901.0, "session_timeout": 0.5})
    text = (await problems(slow))["time-outs"]
    assert "STREAMAPP_TRANSACTION_TIMEOUT=901 s is above the brokers' transaction.max.timeout.ms=900 s" in text
    assert "STREAMAPP_SESSION_TIMEOUT=0.5 s is below" in text


async def test_a_directory_in_use_or_in_the_way_is_named(settings: Settings, tmp_path: Path) -> None:
    held = StateDirectory(settings.state_directory, settings.id)
    try:
        assert "is in use by process" in (await problems(settings))["state directory"]
    finally:
        held.close()
    (tmp_path / "file").touch()
    blocked = settings.model_copy(update={"datadir": tmp_path / "file"})
    assert "cannot be written" in (await problems(blocked))["state directory"]


async def test_a_twin_that_is_seated_is_named(settings: Settings) -> None:
    topics.apply(settings)
    twin = Consumer(
        {"bootstrap.servers": settings.broker, "group.id": settings.id, "group.instance.id": settings.instance}
    )
    twin.subscribe([f"{settings.id}-in"])
    try:
        deadline = time.monotonic() + 20
        while not twin.assignment() and time.monotonic() < deadline:
            twin.poll(0.1)
        assert "one is seated in group" in (await problems(settings))["no twin of this INSTANCE"]
    finally:
        twin.close()


async def test_no_broker_is_said_in_bounded_time(settings: Settings) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        await check(settings.model_copy(update={"broker": "127.0.0.1:1"}), timeout_s=1)


APP = """
    from streamapp import App, inbox
    from streamapp.settings import load

    settings = load()
    app = App(settings=settings)
    orders = app.topic(f"{settings.id}-orders")
    hits = app.topic(f"{settings.id}-hits")
    counts = app.Table("counts", default=int)

    @app.agent(orders)
    @inbox(aggregate_type="ORDER", event_type="ORDER_COUNT", event_id="id")
    async def count(stream):
        async for order in stream:
            counts[order["id"]] += 1

    @app.agent(hits)
    async def look(stream):
        async for hit in stream:
            counts["hits"] += 1
"""


def checked(settings: Settings, directory: Path) -> tuple[int, dict[str, list[str]]]:
    """What `streamapp check --app` says of an own project in this directory."""
    (directory / "checked_shop.py").write_text(dedent(APP))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMAPP_")} | {
        "STREAMAPP_BROKER": settings.broker,
        "STREAMAPP_ID": settings.id,
        "STREAMAPP_DATADIR": str(directory / "state"),
        "STREAMAPP_PARTITIONS": "2",
    }
    command = [sys.executable, "-m", "streamapp.cli", "check", "--app", "checked_shop", "--json"]
    ended = subprocess.run(
        command, env=environment, cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode in (0, 1), ended.stderr
    return ended.returncode, {it["check"]: it["problems"] for it in json.loads(ended.stdout)}


def test_every_topic_of_an_app_is_looked_at(settings: Settings, tmp_path: Path) -> None:
    name, admin = settings.id, AdminClient({"bootstrap.servers": settings.broker})
    what = f"the app's topics (it reads {name}-hits, {name}-orders)"
    code, found = checked(settings, tmp_path)
    assert (code, found[what]) == (0, []), "a worker creates what does not exist"
    made = [
        NewTopic(f"{name}-orders", 2, 1),
        NewTopic(f"{name}-orders-dlt", 1, 1, config={"cleanup.policy": "compact"}),
        NewTopic(f"{name}-hits", 2, 1),
        NewTopic(f"{name}-counts-changelog", 3, 1, config={"cleanup.policy": "compact"}),
    ]
    for created in admin.create_topics(made).values():
        created.result(60)
    code, found = checked(settings, tmp_path)
    text = "\n".join(found[what])
    assert code == 1
    assert f"--entity-name {name}-orders --add-config message.timestamp.type=LogAppendTime" in text
    assert f"{name}-orders-dlt is compacted" in text
    assert f"{name}-counts-changelog" in text
    assert f"entity-name {name}-hits" not in text, "without an inbox and windows its stamps decide nothing"
