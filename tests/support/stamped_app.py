"""Agents on topics that may keep their senders' stamps: an inbox and windows, declared so or not."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import msgspec

from streamapp import App, inbox
from streamapp.windows import Count


class Visit(msgspec.Struct, frozen=True):
    KEY: ClassVar[str] = "page"
    visit_id: str
    page: str
    occurred_at: str


STAMPS: Any = os.environ.get("STAMPS", "sender")
app = App("stamped")
counted = app.Table("counted", default=int)
by_minute = (
    app.Table("by_minute")
    .tumbling(60, grace=10, topic="visit")
    .aggregate(count=Count())
    .upsert_to(app.topic("minutes"))
)


@app.agent(app.topic("visit", value_type=Visit, timestamps=STAMPS))
@inbox(aggregate_type="VISIT", event_type="VISIT_COUNT", event_id="visit_id")
async def count(stream: Any) -> None:
    async for visit in stream:
        counted[visit.page] += 1
        by_minute.add(visit.page, visit)


@app.agent(app.topic("note", timestamps=STAMPS))
@inbox(aggregate_type="NOTE", event_type="NOTE_COUNT", event_id="id")
async def note(stream: Any) -> None:
    async for value in stream:
        counted[value["id"]] += 1


@app.agent(app.topic("batch", timestamps=STAMPS))
@inbox(aggregate_type="NOTE", event_type="NOTE_BATCH", event_id="id")
async def batches(stream: Any) -> None:
    async for values in stream.take(3, within=1):
        for value in values:
            counted[value["id"]] += 1
