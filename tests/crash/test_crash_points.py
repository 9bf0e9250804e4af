"""Each crash point once, the ways rotating by seed: `make crash` runs all points in all ways."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from campaign.catalogue import POINTS, Point, Way
from campaign.cluster import Cluster
from campaign.shot import Shot
from streamapp.embedded.kafka import Kafka

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(180)]

#: Another one each day, so that in four days every point has been in every way; a failure names it.
SEED = int(os.environ.get("SEED") or datetime.datetime.now(datetime.UTC).toordinal())
WAYS = list(Way)


class Place(NamedTuple):
    """Where shots are fired: a broker of their own, whose topics each shot makes anew."""

    cluster: Cluster
    logs: Path
    directory: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("crash")
    kafka = Kafka(directory / "kafka", port=0, die_with_parent=True)
    kafka.start()
    cluster = Cluster(kafka.bootstrap)
    try:
        yield Place(cluster, kafka.nodes[0].directory / "data", directory)
    finally:
        cluster.close()
        kafka.kill()


@pytest.mark.parametrize(
    ("point", "way"),
    [
        pytest.param(p, WAYS[(i + SEED) % len(WAYS)], id=f"{p.name}-{WAYS[(i + SEED) % 4]}")
        for i, p in enumerate(POINTS)
    ],
)
def test_nothing_is_lost_doubled_or_halved(place: Place, point: Point, way: Way) -> None:
    result = Shot(*place, point, way, SEED).run()
    assert result.passed, "\n".join([*result.problems, result.again, result.directory])
