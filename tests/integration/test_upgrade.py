"""Rolling upgrade: workers of an earlier commit and of this one share a group, one after the other is replaced."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from service import ROOT, Service

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

#: The last commit whose inbox marks have no posting, and whose commits write no positions.
BEFORE = "7fcf835343"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of that commit."""
    git = shutil.which("git") or pytest.skip("git is not installed")
    archive = subprocess.run([git, "-C", str(ROOT), "archive", BEFORE], capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"this clone has no commit {BEFORE}: it is a shallow one, or no clone at all")
    directory = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tree:
        tree.extractall(directory, filter="data")
    return directory


@pytest.fixture
def service(kafka: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Service]:
    with Service(kafka.bootstrap, topic_prefix, tmp_path) as service:
        service.create_topics()
        yield service


def test_workers_are_replaced_one_by_one_and_nothing_counts_twice(service: Service, before: Path) -> None:
    olds = [service.worker(name, state=name, root=before) for name in ("one", "two")]
    for worker in olds:
        worker.until("ready after")
    service.feed(300)
    service.assert_pass()

    # One is replaced in good order, the other one still runs beside it.
    assert olds[0].stop() == 0, olds[0].said
    new = service.worker("one", state="one")
    new.until("ready after")
    service.feed_again(300)
    service.feed(300)
    service.assert_pass()

    # The other one dies, and its successor has its state.
    olds[1].kill()
    newer = service.worker("two", state="two")
    newer.until("ready after")
    service.feed_again(600)
    service.feed(300)
    report = service.assert_pass()
    assert report.records_read[service.topics.transfer] == 1800
    assert new.exit_code is None, new.said

    # And a worker that has only the changelogs knows them, too.
    assert newer.stop() == 0, newer.said
    service.worker("two", state="empty").until("ready after")
    service.feed_again(900)
    assert service.assert_pass().records_read[service.topics.transfer] == 2700
    for worker in (new, newer):
        assert "error" not in worker.said.lower().replace("errors", ""), worker.said


def test_a_worker_of_before_takes_the_group_back(service: Service, before: Path) -> None:
    new = service.worker("one", state="one")
    new.until("ready after")
    service.feed(300)
    service.assert_pass()
    assert new.stop() == 0, new.said
    old = service.worker("one", state="one", root=before)
    old.until("ready after")
    service.feed_again(300)
    service.feed(300)
    service.assert_pass()
    assert old.stop() == 0, old.said
    newer = service.worker("one", state="one")
    newer.until("ready after")
    service.feed_again(600)
    service.feed(300)
    service.assert_pass()
    assert newer.stop() == 0, newer.said
