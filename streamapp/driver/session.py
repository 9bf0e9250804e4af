"""What a worker has while it is connected to Kafka; readers outside of it begin here."""

from __future__ import annotations

from dataclasses import dataclass

from streamapp.engine.engine import Engine
from streamapp.engine.restore import Restoring
from streamapp.eos.cluster import Cluster


@dataclass(frozen=True, eq=False)
class Session:
    """One worker's, from its connection to Kafka until it stops."""

    engine: Engine
    cluster: Cluster
    #: How far its tables are restored.
    restoring: Restoring
