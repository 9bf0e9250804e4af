"""The test kit: Kafka in memory, faults by a seed and time that jumps, so that a run is a function of its seed.

For an app, `Bench` runs a real worker of it, and `crash_everywhere` one for every crash point; as pytest fixtures they
are `app`, `agent` and `crash_everywhere` (`plugin.py`, `docs/testing.md`).

    with Bench("shop") as app:
        app.feed("order", {"order_id": "1", "customer": "ann", "cents": 250})
        assert app.outputs("customer-total") == [{"cents": 250}]

For the engine's own parts:

    async def main(loop: VirtualLoop) -> None:
        broker = MemoryBroker()
        broker.create_topic("transfer", 4)
        cluster = MemoryCluster(broker, SeededFaults(random.Random(7), Rates(lose_answer=0.1)))
        producer = Producer(cluster, "worker-1", transaction_timeout_s=10, clock=VirtualClock())
        process = loop.process("worker-1")      # can be frozen, thawed and killed
        await process.spawn(producer.start())

    run(main, seed=7)

`broker` is what all clients share, `cluster` one client's connection with its faults, `consumer` a group member,
`environment` a worker's surroundings, `loop` the virtual time. The broker answers as Kafka 4.1 does: `tests/contract`
holds both to one suite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamapp.testing.bench import Bench
    from streamapp.testing.crashes import CrashMatters, CrashReport, crash_everywhere
    from streamapp.testing.worker import NotSettled

__all__ = ["Bench", "CrashMatters", "CrashReport", "NotSettled", "crash_everywhere"]

_HOME = {
    "Bench": "bench",
    "NotSettled": "worker",
    "CrashMatters": "crashes",
    "CrashReport": "crashes",
    "crash_everywhere": "crashes",
}


def __getattr__(name: str) -> Any:
    # Faust is slow to import, and pytest imports the plugin beside this for every test run.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
