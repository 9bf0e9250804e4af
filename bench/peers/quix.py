"""Quix Streams, exactly once: state in rocksdict with a changelog."""

from __future__ import annotations

import os
from typing import Any

from quixstreams import Application

app = Application(
    broker_address=os.environ["BENCH_BROKER"],
    consumer_group=os.environ["BENCH_GROUP"],
    processing_guarantee="exactly-once",
    auto_offset_reset="earliest",
    commit_interval=0.1,
    state_dir=os.environ["BENCH_STATE"],
    loglevel="WARNING",
    consumer_extra_config={"isolation.level": "read_committed"},
    producer_extra_config={"partitioner": "murmur2_random", "linger.ms": 5},
)
source = app.topic(os.environ["BENCH_SOURCE"], value_deserializer="json")
output = app.topic(os.environ["BENCH_OUTPUT"], value_serializer="json", key_serializer="str")


def legs(transfer: dict[str, Any], state: Any) -> list[dict[str, Any]]:
    """Two legs a transfer, none for a repeat."""
    event_id = transfer["event_id"]
    if state.exists(event_id):
        return []
    state.set(event_id, 1)
    return [
        {"event_id": event_id, "account": transfer["src"], "delta": -transfer["amount"]},
        {"event_id": event_id, "account": transfer["dst"], "delta": transfer["amount"]},
    ]


frame = app.dataframe(source).apply(legs, stateful=True, expand=True)
frame = frame.to_topic(output, key=lambda leg: leg["account"])

if __name__ == "__main__":
    app.run()
