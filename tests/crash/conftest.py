"""Where shots are fired: a broker of their own, because each shot makes the contract's topics anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from campaign.cluster import Cluster
from streamapp.embedded.kafka import Kafka


class Place(NamedTuple):
    """The cluster, its log directory, and where shots keep their files."""

    cluster: Cluster
    logs: Path
    directory: Path


@pytest.fixture(scope="package")
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
