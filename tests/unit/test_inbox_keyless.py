"""A record without a key has no one partition where its repeats are, so an inbox takes it only where there is one."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from streamapp.testing import Bench

APP = """
    from streamapp import App, inbox

    app = App("keyless")
    out = app.topic("out")

    @app.agent(app.topic("in"))
    @inbox(aggregate_type="PARCEL", event_type="PARCEL_SHIP", event_id="id")
    async def ship(stream):
        async for events in {events}:
            await out.send(key=b"k", value=1)
"""
EACH, TAKEN = "stream", "stream.take(2, within=1)"


@pytest.mark.parametrize("events", [EACH, TAKEN])
@pytest.mark.parametrize("partitions", [1, 2])
def test_a_record_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitions: int, events: str) -> None:
    (tmp_path / "keyless_app.py").write_text(dedent(APP.format(events=events)))
    monkeypatch.syspath_prepend(tmp_path)
    with Bench("keyless_app", partitions=partitions) as bench:
        for number in range(2):
            bench.feed("in", {"id": "p"}, partition=number % partitions)
        bench.settle()
        sent, letters = bench.records("out"), bench.dead_letters("in")
        assert (len(sent), len(letters)) == ((1, 0) if partitions == 1 else (0, 2))
        assert all("no key" in str(letter) for letter in letters)
