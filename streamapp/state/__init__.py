"""Tables on disk, committed with Kafka's transactions: knows neither Kafka nor Faust, nor asyncio.

    state = StateDirectory(settings.state_directory, app=settings.id)         or MemoryState()
    balances = state.open_partition(StoreIdentity("app", "balances", 0, "app-balances-changelog"))
    unit = balances.begin()
    unit.set(b"alice", b"10")
    unit.merge()
    for key, value in balances.changes(): ...
    balances.commit(checkpoint=1)

Synchronous, one thread. `StateCorrupted`: close the partition, `state.wipe()` it, open and restore. `StoreError`:
the disk refused, stop. `ConfigurationError`: do not start. `UnitEnded`: a defect of the caller.
"""

from __future__ import annotations

from streamapp.state.directory import DirectoryInUse, StateDirectory
from streamapp.state.identity import StoreIdentity
from streamapp.state.memory import MemoryState
from streamapp.state.options import SharedMemory
from streamapp.state.overlay import UnitEnded
from streamapp.state.partition import Committed, TablePartition
from streamapp.state.unit import StoreTransaction

__all__ = [
    "Committed",
    "DirectoryInUse",
    "MemoryState",
    "SharedMemory",
    "StateDirectory",
    "StoreIdentity",
    "StoreTransaction",
    "TablePartition",
    "UnitEnded",
]
