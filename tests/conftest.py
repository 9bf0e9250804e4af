"""Real servers for the tests: one Kafka cluster and one PostgreSQL a test run, started when first asked for.

TEST_BROKER=host:port uses a Kafka that runs already, to save its start while developing.

`make test` runs whole files side by side in processes, each with servers of its own: most tests wait for Kafka most of
their time. Within a file the order stays, and a failure repeats alone with `.venv/bin/python -m pytest` and its name.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from streamapp.embedded.kafka import Kafka
from streamapp.embedded.postgres import Postgres

sys.path.insert(0, str(Path(__file__).parent / "support"))
import quiet_clients

quiet_clients.install()  # before a test module imports one

#: The files that take minutes, the longest first: what starts last runs alone in the end.
_LONGEST = (
    "crash/test_crash_points.py",
    "integration/test_embedded_cli.py",
    "integration/test_workers_broker.py",
    "integration/test_agents_failures.py",
    "crash/test_mutants.py",
    "simulation/test_mutants.py",
    "integration/test_workers_bad_input.py",
)
#: Keeps every core busy, so it comes last: tests that wait for Kafka have bounds in seconds.
_BUSIEST = "simulation/test_schedules.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, the busiest last."""
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(_LONGEST)}
    rank[here / _BUSIEST] = len(rank) + 1
    assert all(file.exists() for file in rank), "a file in _LONGEST has moved"
    items.sort(key=lambda item: rank.get(item.path, len(_LONGEST)))


class Broker(NamedTuple):
    """Where the tests' Kafka answers."""

    bootstrap: str


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One Kafka for the whole run; its topics are shared, so a test names its own with `topic_prefix`."""
    if given := os.environ.get("TEST_BROKER"):
        yield Broker(given)
        return
    cluster = Kafka(tmp_path_factory.mktemp("kafka"), port=0, die_with_parent=True)
    cluster.start()
    try:
        yield Broker(cluster.bootstrap)
    finally:
        cluster.kill()


class Database(NamedTuple):
    """Where the tests' PostgreSQL answers."""

    url: str


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One PostgreSQL for the whole run; a test makes its own schema or table names."""
    server = Postgres(tmp_path_factory.mktemp("postgres"), port=0, durable=False, die_with_parent=True)
    server.start()
    try:
        yield Database(server.url)
    finally:
        server.kill()


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """Begins every name a test uses on the broker: topics, groups, transactional ids. Unique a test and a run."""
    stem = Path(str(request.node.path)).stem.removeprefix("test_")
    return f"{stem[:40]}-{uuid.uuid4().hex[:10]}"
