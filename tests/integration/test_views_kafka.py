"""The views on real Kafka: committed values only, of any key from any worker, while partitions move; hostile keys."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from streamapp import inbox
from streamapp.engine.commit_cycle import CycleEvent
from streamapp.web.server import serving

pytestmark = pytest.mark.kafka

PARTITIONS = 4
KEYS = [f"key-{number}" for number in range(12)]
#: Keys that somebody sends to break a page, a path or a program that reads them.
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' or 1=1 --",
    "nul\x00inside",
    "../../etc/passwd",
    "..",
    ".",
    "a/b//c",
    "%2e%2e%2f",
    "%00",
    "?key=x&after=y",
    "#anchor",
    "line\r\nSet-Cookie: a=b",
    "{{7*7}}${7*7}",
    "ümlaut 漢字 🙂",
    "‮right-to-left",
    '"quoted"',
    '["a","b","c"]',
    "|",
    " ",
    "x" * 10_000,
    "\x7f\x1b[31m",
]


class Answer(NamedTuple):
    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Browser:
    """Asks the views of workers."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, address: str, path: str, **headers: str) -> Answer:
        url = URL(f"{address}{path}", encoded=True)
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            return Answer(response.status, response.headers, await response.text())

    async def value(self, address: str, table: str, key: str) -> Any:
        """The value of a row, None where there is none."""
        answer = await self.get(address, f"/tables/{table}/{quote(key, safe='')}")
        assert answer.status in (200, 404), answer
        return answer.json["value"]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield Browser(session)


@asynccontextmanager
async def viewed(running: Any, app: Any, *, owned: bool = True) -> AsyncIterator[str]:
    """A worker with its views; yields their address."""
    async with serving(app, 0) as address, running(app, owned=owned):
        yield address


def remembering(bench: Any, **settings: Any) -> Any:
    """Numbers each key's events and marks every attempt, so that what was rolled back can be told."""
    app = bench.app(partitions=PARTITIONS, **{"session_timeout": 10.0, **settings})
    out = app.topic(bench.name("out"))
    counts = app.Table("counts", help="Events of each key")

    @app.agent(app.topic(bench.name("in")))
    async def count(stream: Any) -> None:
        async for event in stream.events():
            key = event.key.decode()
            before = counts.get(key) or {"count": 0}
            after = {"count": before["count"] + 1, "attempt": uuid.uuid4().hex}
            counts[key] = after
            await out.send(key=event.key, value=after)

    return app


def send(bench: Any, keys: list[str]) -> None:
    """One event of each key."""
    bench.send("in", [{"key": key} for key in keys], key=lambda value: value["key"])


async def test_what_is_not_committed_is_not_shown(
    bench: Any, running: Any, until: Any, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.create("in", "in-dlt", "out", partitions=PARTITIONS)
    app = remembering(bench, commit_interval=6.0, session_timeout=20.0, transaction_timeout=20.0)
    async with viewed(running, app) as address:
        bench.send("in", ["1"], key="alice")
        await bench.wait_for("out", 1)
        first = await browser.get(address, "/tables/counts/alice")
        assert first.json["value"]["count"] == 1

        engine = app.engine
        bench.send("in", ["2"], key="alice")
        await until(lambda: engine.dirty)  # finished, and the transaction is open
        assert any(store.overlay for task in engine.tasks for store in task.stores.values())
        assert (await browser.get(address, "/tables/counts/alice")).json == first.json

        # Written to Kafka, and its end held back.
        cluster, going, held = app.consumer._cluster, asyncio.Event(), asyncio.Event()
        end = cluster.end_transaction

        async def held_back(request: Any) -> Any:
            held.set()
            await going.wait()
            return await end(request)

        monkeypatch.setattr(cluster, "end_transaction", held_back)
        await asyncio.wait_for(held.wait(), 60)
        assert (await browser.get(address, "/tables/counts/alice")).json == first.json
        page = await browser.get(address, "/tables/counts")
        assert [row["value"]["count"] for row in page.json["rows"]] == [1]
        going.set()
        await bench.wait_for("out", 2)
        await until(lambda: not engine.dirty)
        second = (await browser.get(address, "/tables/counts/alice")).json
    assert second["value"]["count"] == 2
    assert second["committed_offset"] > first.json["committed_offset"]
    assert second["as_of"] > first.json["as_of"]
    assert second["owner"] == address
    assert second["inputs"][bench.name("in")] > first.json["inputs"][bench.name("in")]


async def test_any_worker_answers_for_any_key_while_partitions_move(
    bench: Any, running: Any, until: Any, browser: Browser
) -> None:
    bench.create("in", "in-dlt", "out", partitions=PARTITIONS)
    stopped = asyncio.Event()
    seen: dict[str, list[dict[str, Any]]] = {key: [] for key in KEYS}
    statuses: dict[int, int] = {}
    addresses: list[str] = []
    apps = [remembering(bench, store=store) for store in ("rocksdict", "memory", "rocksdict")]

    async def feeding() -> int:
        sent = 0
        while not stopped.is_set():
            await asyncio.to_thread(bench.send, "in", range(sent, sent + 24), key=lambda number: KEYS[number % 12])
            sent += 24
            await asyncio.sleep(0.05)
        return sent

    async def asking() -> None:
        turn = 0
        while not stopped.is_set():
            key, address = KEYS[turn % len(KEYS)], addresses[turn // 5 % len(addresses)]
            turn += 1
            try:
                answer = await browser.get(address, f"/tables/counts/{key}")
            except aiohttp.ClientError:
                assert address not in addresses  # it has left meanwhile
                continue
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            if answer.status == 200:
                seen[key].append(answer.json["value"])
            elif answer.status == 503:
                assert answer.headers["Retry-After"]
                assert answer.json["error"] == "not ready, retry"
            else:
                assert answer.status == 404, answer
            await asyncio.sleep(0.002)

    async def aborting() -> None:
        """What finished is rolled back now and then, as by a lost answer."""
        while not stopped.is_set():
            await asyncio.sleep(0.25)
            for app in apps:
                engine = app.engine
                if engine is not None and engine.tasks:
                    committer = engine.committer
                    async with committer._lock:
                        for _ in range(200):  # the lock is free just behind a commit, when nothing has finished yet
                            if engine.dirty or not engine.tasks or stopped.is_set():
                                break
                            await asyncio.sleep(0.005)
                        if engine.dirty and engine.tasks:
                            committer.cycle.apply(CycleEvent.REQUESTED)
                            if await engine.gate.drained(5.0) and engine.dirty:
                                await committer._abort("a test wants it")
                            elif engine.tasks:
                                committer._step(CycleEvent.NOTHING)

    async with AsyncExitStack() as workers:
        addresses.append(await workers.enter_async_context(viewed(running, apps[0])))
        jobs = [asyncio.create_task(job()) for job in (feeding, asking, aborting)]
        try:
            addresses.append(await workers.enter_async_context(viewed(running, apps[1])))
            async with viewed(running, apps[2]) as third:
                addresses.append(third)
                await until(lambda: sum(len(app.engine.owners) for app in apps) == PARTITIONS)
                await asyncio.sleep(1.0)
                addresses.remove(third)
                await asyncio.sleep(0.1)  # what was asked of it is answered
            await until(lambda: sum(len(app.engine.owners) for app in apps[:2]) == PARTITIONS)
            await asyncio.sleep(0.5)
        finally:
            stopped.set()
            total, *_ = await asyncio.gather(*jobs)
        rows = await bench.wait_for("out", total)
        for address in addresses:
            for key in KEYS:
                assert (await browser.value(address, "counts", key))["count"] == total // len(KEYS)
        aborts = sum(app.engine.counts.get("aborts", 0) for app in apps[:2])
    committed = {row.json["attempt"] for row in rows}
    assert aborts, "nothing was rolled back, so this shows nothing"
    assert statuses.get(200, 0) > 100, statuses
    for key, values in seen.items():
        rolled_back = [value for value in values if value["attempt"] not in committed]
        assert not rolled_back, f"{key}: shown and never committed: {rolled_back}"
        numbers = [value["count"] for value in values]
        assert numbers == sorted(numbers), f"{key} went back: {numbers}"


async def test_hostile_keys_are_found_and_escaped(bench: Any, running: Any, browser: Browser) -> None:
    bench.create("in", "in-dlt", "out", partitions=PARTITIONS)
    app = remembering(bench)
    async with viewed(running, app) as address:
        send(bench, HOSTILE)
        await bench.wait_for("out", len(HOSTILE))
        for key in HOSTILE:
            path = f"/tables/counts/{quote(key, safe='').replace('.', '%2E')}"
            answer = await browser.get(address, path)
            assert answer.status == 200, (key[:40], answer)
            assert answer.json["key"] == key
            assert "\n" not in str(answer.headers)
            page = await browser.get(address, path, Accept="text/html")
            assert page.status == 200
            assert_harmless(page)

        found: list[str] = []
        url = "/tables/counts?limit=5"
        while url:
            answer = (await browser.get(address, url)).json
            assert len(answer["rows"]) <= 5
            for row in answer["rows"]:
                again = await browser.get(address, row["url"])
                assert (again.status, again.json["value"]) == (200, row["value"]), row["url"][:80]
                assert "/../" not in row["url"]
                found.append(row["key"])
            html = await browser.get(address, url, Accept="text/html")
            assert html.status == 200
            assert_harmless(html)
            url = answer["next"]
        assert sorted(found) == sorted(HOSTILE)


def assert_harmless(page: Answer) -> None:
    """No tag that we did not write, and a policy under which a script would not run anyway."""
    for part in ("<script", "<img", "\x00", "\x1b", "\u202e"):
        assert part not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in page.headers


async def test_pages_go_through_every_row_of_every_worker_once(
    bench: Any, running: Any, until: Any, browser: Browser
) -> None:
    bench.create("in", "in-dlt", "out", partitions=PARTITIONS)
    keys = [f"{number:03}" for number in range(90)]
    apps = [remembering(bench), remembering(bench, store="rocksdict")]
    async with viewed(running, apps[0]) as first, viewed(running, apps[1]) as second:
        await until(lambda: sum(len(app.engine.owners) for app in apps) == PARTITIONS)
        send(bench, keys)
        await bench.wait_for("out", len(keys))
        for address in (first, second):
            found, owners, url = [], set(), "/tables/counts?limit=7"
            while url:
                answer = (await browser.get(address, url)).json
                found += [row["key"] for row in answer["rows"]]
                owners |= {version["owner"] for version in answer["partitions"]}
                url = answer["next"]
            assert sorted(found) == keys
            assert owners == {first, second}
        one = (await browser.get(first, "/tables/counts?partition=1&limit=200")).json
        assert {version["partition"] for version in one["partitions"]} == {1}
        assert one["next"] is None
        for query in ("partition=4", "limit=0", "limit=9999", "limit=x", "after=nonsense", "after=9.", "after=0.%%%"):
            assert (await browser.get(first, f"/tables/counts?{query}")).status == 400, query
        listed = (await browser.get(first, "/tables")).json
        assert listed == {"tables": [{"table": "counts", "help": "Events of each key", "url": "/tables/counts"}]}


async def test_marks_of_the_inbox_are_looked_up_by_event(
    bench: Any, running: Any, until: Any, browser: Browser
) -> None:
    bench.create("in", "in-dlt", "out", partitions=PARTITIONS)

    def guarded() -> Any:
        app = bench.app(partitions=PARTITIONS)
        out = app.topic(bench.name("out"))

        @app.agent(app.topic(bench.name("in")), name="pay")
        @inbox(aggregate_type="ORDER", event_type="ORDER_PAY")
        async def pay(stream: Any) -> None:
            async for event in stream.events():
                await out.send(key=event.key, value="paid")

        return app

    apps = [guarded(), guarded()]
    async with viewed(running, apps[0]) as first, viewed(running, apps[1]) as second:
        await until(lambda: sum(len(app.engine.owners) for app in apps) == PARTITIONS)
        bench.send("in", [{"event_id": f"e-{number}"} for number in range(8)], key=lambda it: f"order-{it['event_id']}")
        await bench.wait_for("out", 8)
        for address in (first, second):
            for number in range(8):
                answer = await browser.get(address, f"/tables/inbox/e-{number}?key=order-e-{number}")
                (mark,) = answer.json["value"]
                assert (mark["agent"], mark["status"], mark["attempts"]) == ("pay", "PROCESSED", 1)
                whole = await browser.get(address, f"/tables/inbox/{quote(mark['key'], safe='')}")
                assert whole.json["value"]["status"] == "PROCESSED"
            assert (await browser.get(address, "/tables/inbox/e-99?key=order-e-1")).status == 404
            # One that begins alike is another one.
            assert (await browser.get(address, "/tables/inbox/e?key=order-e-1")).status == 404
            missing = await browser.get(address, "/tables/inbox/e-1")
            assert (missing.status, "?key=" in missing.json["reason"]) == (400, True)


async def test_an_owner_that_is_back_at_another_port_is_found(
    bench: Any, running: Any, until: Any, browser: Browser
) -> None:
    bench.create("in", "in-dlt", "out", partitions=PARTITIONS)
    stays = remembering(bench, instance="stays", session_timeout=20.0)
    async with viewed(running, stays) as here:
        moves = remembering(bench, instance="moves", session_timeout=20.0, store="rocksdict")
        async with viewed(running, moves) as there:
            await until(lambda: len(stays.engine.owners) + len(moves.engine.owners) == PARTITIONS)
            send(bench, KEYS)
            await bench.wait_for("out", len(KEYS))
            owners = {(await browser.get(here, f"/tables/counts/{key}")).json["owner"] for key in KEYS}
            assert owners == {here, there}
            generation = stays.engine.membership.generation
        statuses = {(await browser.get(here, f"/tables/counts/{key}")).status for key in KEYS}
        assert statuses == {200, 503}
        again = remembering(bench, instance="moves", session_timeout=20.0, store="rocksdict")
        async with viewed(running, again) as elsewhere:
            assert elsewhere != there
            assert stays.engine.membership.generation == generation, "there was a rebalance, so this shows nothing"

            async def owners_now() -> set[Any]:
                return {(await browser.get(here, f"/tables/counts/{key}")).json.get("owner") for key in KEYS}

            async with asyncio.timeout(60):
                while await owners_now() != {here, elsewhere}:  # noqa: ASYNC110 - it asks over HTTP
                    await asyncio.sleep(0.1)


async def test_workers_ask_each_other_with_the_token(bench: Any, running: Any, until: Any, browser: Browser) -> None:
    bench.create("in", "in-dlt", "out", partitions=PARTITIONS)
    apps = [remembering(bench, web_token="secret") for _ in range(2)]
    async with viewed(running, apps[0]) as first, viewed(running, apps[1]) as second:
        await until(lambda: sum(len(app.engine.owners) for app in apps) == PARTITIONS)
        send(bench, KEYS)
        await bench.wait_for("out", len(KEYS))
        for address in (first, second):
            for key in KEYS:
                assert (await browser.get(address, f"/tables/counts/{key}")).status == 401
                answer = await browser.get(address, f"/tables/counts/{key}", Authorization="Bearer secret")
                assert answer.json["value"]["count"] == 1
            for open_to_all in ("/livez", "/readyz", "/healthz"):
                assert (await browser.get(address, open_to_all)).status == 200
        other = {"X-Streamapp-Peer": "another-app", "Authorization": "Bearer secret"}
        assert (await browser.get(first, "/tables/counts/key-1", **other)).status == 421


async def test_an_owner_without_views_is_named(bench: Any, running: Any, until: Any, browser: Browser) -> None:
    bench.create("in", "in-dlt", "out", partitions=PARTITIONS)
    seen, unseen = remembering(bench), remembering(bench)
    async with viewed(running, seen) as address, running(unseen):
        await until(lambda: len(seen.engine.owners) == PARTITIONS // 2 == len(unseen.engine.owners))
        answers = [await browser.get(address, f"/tables/counts/{key}") for key in KEYS]
        assert {answer.status for answer in answers} == {404, 503}
        reasons = {answer.json["reason"] for answer in answers if answer.status == 503}
        assert all("--without-web" in reason for reason in reasons)


async def test_health_and_metrics_follow_the_worker(bench: Any, running: Any, until: Any, browser: Browser) -> None:
    bench.create("in", "in-dlt", "out", partitions=PARTITIONS)
    app = remembering(bench)
    async with serving(app, 0) as address:
        assert (await browser.get(address, "/livez")).status == 200
        assert (await browser.get(address, "/readyz")).status == 503
        async with running(app):
            send(bench, KEYS)
            bench.send("in", ["{"], key="bad", partition=1)
            await bench.wait_for("out", len(KEYS))
            await bench.wait_for("in-dlt", 1)
            await until(lambda: not app.engine.dirty)
            for path in ("/livez", "/readyz", "/healthz"):
                answer = await browser.get(address, path)
                assert (answer.status, answer.text.splitlines()[0]) == (200, "ok")
            figures = parsed((await browser.get(address, "/metrics")).text)
            lines = (await browser.get(address, "/ops/errors")).text.splitlines()

            standby = [remembering(bench) for _ in range(PARTITIONS)]
            async with AsyncExitStack() as more:
                addresses = [await more.enter_async_context(viewed(running, it, owned=False)) for it in standby]
                await until(lambda: all(it.engine.membership is not None for it in standby))
                await until(lambda: sum(len(it.engine.owners) for it in (app, *standby)) == PARTITIONS)
                assert any(not it.engine.owners for it in standby)  # it stands by, and is ready
                async with asyncio.timeout(60):
                    for other in addresses:
                        while (await browser.get(other, "/readyz")).status != 200:  # noqa: ASYNC110
                            await asyncio.sleep(0.05)
        assert (await browser.get(address, "/readyz")).status == 503
    assert "dead_letters 1" in lines
    assert all(len(line.split()) == 2 for line in lines)
    assert figures["streamapp_events_total"] == len(KEYS) + 1
    assert figures["streamapp_dead_letters_total"] == 1
    assert figures["streamapp_commits_total"] == figures["streamapp_commit_duration_seconds_count"] > 0
    assert figures["streamapp_owned_partitions"] == PARTITIONS
    assert figures["streamapp_ready"] == 1
    assert figures["streamapp_lag_records"] == 0
    assert figures["streamapp_table_rows"] == len(KEYS)


def parsed(text: str) -> dict[str, float]:
    """Every sample's sum over its labels, read by Prometheus' own parser."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found
