"""This service, an ordinary agent: `@inbox`, rocksdict, two sends an event."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import msgspec

from bench.job import Leg
from streamapp import App, inbox


class Transfer(msgspec.Struct, frozen=True):
    """As in `bench.job`, with the key that the engine checks."""

    KEY: ClassVar[str] = "src"
    event_id: str
    src: str
    dst: str
    amount: int
    note: str = ""


app = App(autodiscover=False)
source = app.topic(os.environ["BENCH_SOURCE"], value_type=Transfer)
output = app.topic(os.environ["BENCH_OUTPUT"], value_type=Leg)


@app.agent(source)
@inbox(aggregate_type="TRANSFER", event_type="TRANSFER_POST", aggregate_id="src")
async def post(stream: Any) -> None:
    """Two legs a transfer."""
    async for transfer in stream:
        await output.send(key=transfer.src, value=Leg(transfer.event_id, transfer.src, -transfer.amount))
        await output.send(key=transfer.dst, value=Leg(transfer.event_id, transfer.dst, transfer.amount))
