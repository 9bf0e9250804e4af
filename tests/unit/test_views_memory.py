"""The views of a real worker in memory: what they show of plain and windowed tables, and of the inbox."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamapp.metrics import exposition
from streamapp.queries import views as queries
from streamapp.queries.views import NotReady, Views
from streamapp.testing import Bench
from streamapp.web.figures import errors, families
from streamapp.web.health import unlive, unready

SHOP = """
    from typing import ClassVar
    import msgspec
    from streamapp import App, inbox
    from streamapp.windows import Count, Sum

    class Sale(msgspec.Struct, frozen=True):
        KEY: ClassVar[str] = "shop"
        event_id: str
        shop: str
        cents: int
        occurred_at: str

    app = App("shop")
    sales = app.topic("sale", value_type=Sale)
    spent = app.Table("spent", default=int)
    hours = (
        app.Table("hours", default=int)
        .hopping(7200, 3600, retention=86400, topic="sale")
        .aggregate(count=Count(), cents=Sum("cents"))
        .upsert_to(app.topic("hour"), key_field="shop")
    )
    days = app.Table("days", default=int).tumbling(86400, topic="sale")

    @app.agent(sales)
    @inbox(aggregate_type="SALE", event_type="SALE_ADD")
    async def add_up(stream):
        async for sale in stream:
            spent[sale.shop] += sale.cents
            hours.add(sale.shop, sale)
            days[sale.shop] += sale.cents
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "viewed_shop.py").write_text(dedent(SHOP))
    monkeypatch.syspath_prepend(tmp_path)
    with Bench("viewed_shop") as bench:
        yield bench
    sys.modules.pop("viewed_shop", None)


def feed(app: Bench, number: int, at: str, shop: str = "a|b", cents: int = 5) -> None:
    app.feed("sale", {"event_id": f"s-{number}", "shop": shop, "cents": cents}, at=at)
    app.settle()


def views_of(app: Bench) -> Views:
    views = queries.views_of(app.app)
    assert views is not None
    return views


def found(views: Views, table: str, key: str, event_key: str | None = None) -> Any:
    """The value at whatever partition has it."""
    values = []
    for number in range(4):
        value, version = views.find(table, number, key.encode(), event_key and event_key.encode(), is_stored=False)
        assert version.partition == number
        if value is not None:
            values.append(value)
    assert len(values) < 2
    return values[0] if values else None


def rows(views: Views, table: str, limit: int = 2, bytes_max: int = 1 << 20) -> list[Any]:
    """Every row, by pages."""
    every = []
    for number in range(4):
        after = None
        while True:
            page, after, _ = views.page(table, number, after, limit, bytes_max)
            assert len(page) <= (limit if bytes_max > 1 else 1)
            every += page
            if after is None:
                break
    return every


def test_windows_are_rows_by_key_and_start(app: Bench) -> None:
    feed(app, 1, "2026-03-01T09:30:00Z")
    feed(app, 2, "2026-03-01T10:30:00Z", cents=7)
    feed(app, 3, "2026-03-01T10:45:00Z", shop="ümlaut", cents=1)
    views = views_of(app)
    nine = found(views, "hours", "a|b|2026-03-01T09:00:00Z")
    assert nine == {
        "window_start": "2026-03-01T09:00:00Z",
        "window_end": "2026-03-01T11:00:00Z",
        "count": 2,
        "cents": 12,
        "revision": 2,
        "final": False,
    }
    every = found(views, "hours", "a|b")
    assert [window["window_start"][11:13] for window in every] == ["08", "09", "10"]
    assert every[1] == nine
    assert found(views, "hours", "a|b|2026-03-01T12:00:00Z") is None
    assert found(views, "hours", "nobody") is None
    day = found(views, "days", "a|b|2026-03-01T00:00:00Z")
    assert (day["value"], day["final"]) == (12, False)

    feed(app, 4, "2026-03-01T13:30:00Z")  # closes what ended before
    assert [window["final"] for window in found(views, "hours", "a|b")] == [True, True, True, False, False]
    assert found(views, "hours", "a|b|2026-03-01T09:00:00Z") == {**nine, "final": True, "revision": 3}

    listed = rows(views, "hours")
    assert len(listed) == len({row.path for row in listed}) == 7
    for row in listed:
        assert found(views, "hours", unquote_to_bytes(row.path).decode()) == row.value
        assert row.key == f"{row.key.rpartition('|')[0]}|{row.value['window_start']}"
    assert {row.key.rpartition("|")[0] for row in listed} == {"a|b", "ümlaut"}
    # A page ends at its bytes, and the next one begins behind the last row it had.
    assert rows(views, "hours", limit=50, bytes_max=1) == listed


def test_the_owner_is_found_by_the_event_s_key(app: Bench) -> None:
    feed(app, 1, "2026-03-01T09:30:00Z")
    views = views_of(app)
    view = views.view("hours")
    assert view.event_key(b"a|b|2026-03-01T09:00:00Z") == b"a|b"
    assert view.event_key(b"a|b") == b"a|b"
    assert view.event_key(b"\xff|2026-03-01T09:00:00Z") == b"\xff"
    assert view.event_key(b"a|\xd9\xa3") == b"a|\xd9\xa3"
    (number,) = views.partitions_of("days", b"a|b", 4)
    for table, key in (("hours", b"a|b|2026-03-01T09:00:00Z"), ("spent", b"a|b")):
        assert views.find(table, number, key, None, is_stored=False)[0] is not None


def test_plain_tables_and_marks_are_shown_with_their_version(app: Bench) -> None:
    feed(app, 1, "2026-03-01T09:30:00Z")
    views = views_of(app)
    assert list(views.tables) == ["days", "hours", "inbox", "spent"]
    assert found(views, "spent", "a|b") == 5
    (number,) = views.partitions_of("spent", b"a|b", 4)
    _, first = views.find("spent", number, b"a|b", None, is_stored=False)
    (mark,) = found(views, "inbox", "s-1", "a|b")
    assert mark["status"] == "PROCESSED"
    feed(app, 2, "2026-03-01T09:31:00Z")
    value, second = views.find("spent", number, b"a|b", None, is_stored=False)
    assert value == 10
    assert first.committed_offset is not None
    assert second.committed_offset is not None
    assert second.committed_offset > first.committed_offset
    assert second.inputs["sale"] > first.inputs["sale"]
    assert second.as_of > first.as_of
    with pytest.raises(KeyError):
        views.view("none")
    with pytest.raises(NotReady):
        views.find("spent", 4, b"a|b", None, is_stored=False)


def test_what_is_not_committed_is_not_shown(app: Bench) -> None:
    feed(app, 1, "2026-03-01T09:30:00Z")
    views = views_of(app)
    (number,) = views.partitions_of("spent", b"a|b", 4)

    def shown() -> list[Any]:
        keys = {"spent": b"a|b", "hours": b"a|b|2026-03-01T09:00:00Z", "inbox": b"s-2"}
        return [views.find(table, number, key, b"a|b", is_stored=False) for table, key in keys.items()]

    before = shown()
    pages = [views.page(table, number, None, 50, 1 << 20) for table in views.tables]
    ends: list[Any] = []

    async def while_it_is_open() -> None:
        """Look every millisecond while the event has finished and its transaction is open."""
        engine = views.engine
        await app._feed(
            "sale", [{"event_id": "s-2", "shop": "a|b", "cents": 7}], None, "2026-03-01T09:31:00Z", None, None
        )
        async with asyncio.timeout(60):
            while not engine.dirty:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.001)
            assert any(store.overlay for task in engine.tasks for store in task.stores.values())
            while engine.dirty:
                ends.append(
                    shown() == before and [views.page(t, number, None, 50, 1 << 20) for t in views.tables] == pages
                )
                await asyncio.sleep(0.001)

    app._run(while_it_is_open())
    assert len(ends) > 3
    assert all(ends[:-1]), "shown before it was committed"
    assert next(value for value, _ in shown()) == 12


def test_health_and_figures(app: Bench) -> None:
    feed(app, 1, "2026-03-01T09:30:00Z")
    feed(app, 1, "2026-03-01T09:30:00Z")
    app.feed("sale", b"no json", key="x")
    app.settle()
    worker = app.app
    assert unready(worker) is None
    assert errors(worker)["duplicates"] == 1
    assert errors(worker)["dead_letters"] == 1
    samples: dict[str, float] = {}

    async def page() -> str:
        return exposition(families(worker))

    for family in text_string_to_metric_families(app._run(page())):
        for sample in family.samples:
            samples[sample.name] = samples.get(sample.name, 0.0) + sample.value
    assert samples["streamapp_events_total"] == 3
    assert samples["streamapp_commits_total"] == samples["streamapp_commit_duration_seconds_count"] > 0
    assert samples["streamapp_commit_overdue_seconds"] == 0
    assert samples["streamapp_lag_records"] == 0
    assert samples["streamapp_ready"] == 1


def test_a_commit_that_does_not_come_is_not_live(app: Bench) -> None:
    feed(app, 1, "2026-03-01T09:30:00Z")
    commits, timeout_s = views_of(app).engine.commits, app.app.settings.transaction_timeout

    async def due_since(timeouts: float) -> str | None:
        commits.settled()
        commits.due(asyncio.get_running_loop().time() - timeouts * timeout_s)
        return unlive(app.app)

    assert app._run(due_since(2)) is None
    assert "a commit has been due" in str(app._run(due_since(4)))
    feed(app, 2, "2026-03-01T09:31:00Z")  # it came

    async def now() -> str | None:
        return unlive(app.app)

    assert app._run(now()) is None
