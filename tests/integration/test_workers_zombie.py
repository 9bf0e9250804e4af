"""Zombies and twins, as real worker processes under load: nothing of the older one is ever committed."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from service import BOUND_S, Service, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.fixture
def service(kafka: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Service]:
    with Service(kafka.bootstrap, topic_prefix, tmp_path) as service:
        service.create_topics()
        yield service


def test_a_thawed_zombie_commits_nothing_and_rejoins_by_itself(service: Service) -> None:
    zombie = service.worker("zombie", state="a")
    feeding = service.feeding(2500, rate=250)
    zombie.until("ready after")
    service.until_committed(150)
    zombie.send(signal.SIGSTOP)
    heir = service.worker("heir", state="b")
    heir.until("ready after")
    before = service.committed()
    service.until_committed(min(before + 150, 2500))
    zombie.send(signal.SIGCONT)
    thawed = time.monotonic()
    wait_until(
        lambda: zombie.exit_code is not None or zombie.said.count("ready after") >= 2,
        lambda: f"it neither ended nor rejoined: {zombie.said}",
    )
    # 2 s are promised, and judged by `make crash` and `make size`, which have the machine to themselves.
    print(f"the zombie had ended or rejoined {time.monotonic() - thawed:.2f} s after its thaw")
    if zombie.exit_code is None:
        assert "partitions lost" in zombie.said, "it noticed by itself what it has lost"
    after = service.committed()
    feeding.join(BOUND_S)
    service.until_committed(min(after + 100, 2500))
    report = service.assert_pass()
    assert report.records_read[service.topics.transfer] == 2500
    assert heir.exit_code is None, heir.said
    assert heir.stop() == 0, heir.said


def test_of_two_twins_the_newer_wins_and_the_older_ends(service: Service) -> None:
    older = service.worker("twin", state="a")
    feeding = service.feeding(1500, rate=250)
    older.until("ready after")
    service.until_committed(100)
    newer = service.worker("twin", state="b")
    assert older.wait() == 1, older.said
    assert "error: Somebody newer holds" in older.said
    assert "give each worker an INSTANCE of its own" in older.said
    newer.until("ready after")
    feeding.join(BOUND_S)
    service.assert_pass()
    assert newer.exit_code is None, newer.said
    assert newer.stop() == 0, newer.said


def test_a_twin_on_the_same_state_directory_does_not_start(service: Service) -> None:
    first = service.worker("twin")
    service.feed(50)
    first.until("ready after")
    second = service.worker("twin")
    assert second.wait() in (1, 2)
    assert "error:" in second.said
    assert "state" in second.said
    service.feed(50)
    service.assert_pass()
    assert first.exit_code is None, "the twin that was refused has not disturbed it"
    assert first.stop() == 0, first.said
