"""This service, an agent that takes batches: `@inbox`, rocksdict, `stream.take()` and `send_soon()`."""

from __future__ import annotations

import os
from typing import Any

from bench.job import Leg
from bench.peers.ours import Transfer
from streamapp import App, inbox

app = App(autodiscover=False)
source = app.topic(os.environ["BENCH_SOURCE"], value_type=Transfer)
output = app.topic(os.environ["BENCH_OUTPUT"], value_type=Leg)


@app.agent(source)
@inbox(aggregate_type="TRANSFER", event_type="TRANSFER_POST", aggregate_id="src")
async def post(stream: Any) -> None:
    """Two legs a transfer."""
    async for batch in stream.take(1000):
        for transfer in batch:
            output.send_soon(key=transfer.src, value=Leg(transfer.event_id, transfer.src, -transfer.amount))
            output.send_soon(key=transfer.dst, value=Leg(transfer.event_id, transfer.dst, transfer.amount))
