"""Stock Faust (`BENCH_GUARANTEE`): its own transactions or none, state in rocksdict with a changelog.

Its agent does not wait for a send's acknowledgement, as Faust's users write it.
"""

from __future__ import annotations

import os
from typing import Any

import faust

app = faust.App(
    os.environ["BENCH_GROUP"],
    broker=f"kafka://{os.environ['BENCH_BROKER']}",
    store="rocksdb://?driver=rocksdict",
    processing_guarantee=os.environ["BENCH_GUARANTEE"],
    broker_commit_interval=0.1,
    topic_partitions=4,
    topic_replication_factor=1,
    datadir=os.environ["BENCH_STATE"],
    web_enabled=False,
    stream_wait_empty=False,
)


class Transfer(faust.Record, serializer="json"):  # type: ignore[call-arg]
    """As in `bench.job`."""

    event_id: str
    src: str
    dst: str
    amount: int


source = app.topic(os.environ["BENCH_SOURCE"], value_type=Transfer, partitions=4)
output = app.topic(os.environ["BENCH_OUTPUT"], partitions=4, key_serializer="raw", value_serializer="json")
seen = app.Table("seen", default=int, partitions=4)


@app.agent(source)
async def post(stream: Any) -> None:
    """Two legs a transfer, none for a repeat."""
    async for transfer in stream:
        event_id = transfer.event_id
        if seen[event_id]:
            continue
        for account, delta in ((transfer.src, -transfer.amount), (transfer.dst, transfer.amount)):
            await output.send(key=account.encode(), value={"event_id": event_id, "account": account, "delta": delta})
        seen[event_id] = 1


if __name__ == "__main__":
    app.main()
