"""`after_commit` on real Kafka: handlers run for what is committed, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aborted import abort_transaction

from streamapp import after_commit

pytestmark = pytest.mark.kafka


class Done:
    """What a handler did: (payload, intent id). It blocks until `free` is set, and fails `failing` times."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, str]] = []
        self.tried = 0
        self.failing = 0
        self.free = asyncio.Event()
        self.free.set()

    @property
    def payloads(self) -> list[Any]:
        return [payload for payload, _ in self.calls]

    async def __call__(self, payload: Any, intent_id: str) -> None:
        self.tried += 1
        await self.free.wait()
        if self.failing:
            self.failing -= 1
            raise ConnectionError("nobody answers")
        self.calls.append((payload, intent_id))


def shop(bench: Any, done: Done, fail: Callable[[Any], bool] = lambda value: False, **settings: Any) -> Any:
    """An app that has `done` told of each order."""
    app = bench.app(**settings)

    @app.after_commit("tell")
    async def tell(payload: Any, intent_id: str) -> None:
        await done(payload, intent_id)
        await app.topic(bench.name("told")).send(key="told", value=payload)

    @app.agent(app.topic(bench.name("orders")), name="book")
    async def book(stream: Any) -> None:
        async for order in stream:
            after_commit(tell, {"order": order})
            if fail(order):
                raise ArithmeticError("cannot be booked")

    return app


def left(bench: Any, app: Any) -> set[str]:
    """The intents that the changelog still holds."""
    rows = bench.committed(f"{app.conf.id}-after-commit-changelog", full_name=True)
    return {row.key for row in rows} - {row.key for row in rows if row.value is None}


@pytest.fixture
def done(bench: Any) -> Done:
    bench.create("orders", "told")
    return Done()


async def test_a_handler_runs_once_for_each_committed_event_and_its_sends_are_committed(
    bench: Any, running: Any, until: Any, done: Done
) -> None:
    app = shop(bench, done, lambda order: order == 2)
    bench.send("orders", [1, 2, 3])
    async with running(app):
        rows = await bench.wait_for("told", 2)
        await until(lambda: not left(bench, app))
        assert app.engine.counts["after_commit_runs"] == 2
    assert [row.json for row in rows] == [{"order": 1}, {"order": 3}]
    assert done.payloads == [{"order": 1}, {"order": 3}]  # order 2 failed: it has no effect but its dead letter
    first, second = (intent for _, intent in done.calls)
    assert first.startswith(bench.name("orders")) and first.endswith("0000000000000000000-0000") and first < second


async def test_nothing_runs_for_an_aborted_transaction(bench: Any, running: Any, until: Any, done: Done) -> None:
    app = shop(bench, done, commit_interval=1.0)
    bench.send("orders", [1])
    async with running(app):
        await until(lambda: app.engine.dirty)
        await abort_transaction(app.engine)
        assert done.calls == []
        await until(lambda: done.calls)
    assert done.payloads == [{"order": 1}]


async def test_the_next_worker_runs_what_is_left(bench: Any, running: Any, until: Any, done: Done) -> None:
    done.free.clear()
    bench.send("orders", [1, 2, 3])
    app = shop(bench, done, instance="w")
    async with running(app):
        await until(lambda: done.tried)
        await until(lambda: len(left(bench, app)) == 3)
    assert done.calls == []
    done.free.set()
    app = shop(bench, done, instance="w")
    async with running(app):
        await bench.wait_for("told", 3)
        await until(lambda: not left(bench, app))
    assert done.payloads == [{"order": 1}, {"order": 2}, {"order": 3}]


async def test_a_failure_is_tried_again_and_keeps_its_place(bench: Any, running: Any, until: Any, done: Done) -> None:
    done.failing = 2
    app = shop(bench, done)
    bench.send("orders", [1, 2])
    async with running(app):
        await bench.wait_for("told", 2)
        assert app.engine.counts["after_commit_failures"] == 2
    assert done.payloads == [{"order": 1}, {"order": 2}]


async def test_a_slow_handler_holds_up_no_commit(bench: Any, running: Any, until: Any, done: Done) -> None:
    done.free.clear()
    app = shop(bench, done)
    async with running(app):
        for number in range(3):
            before = app.engine.counts.get("commits", 0)
            bench.send("orders", [number])
            await until(lambda before=before: app.engine.counts.get("commits", 0) > before)
        await until(lambda: done.tried == 1)
        assert app.engine.counts.get("aborts", 0) == 0
        done.free.set()
        await bench.wait_for("told", 3)


async def test_removals_of_an_aborted_transaction_are_done_again(
    bench: Any, running: Any, until: Any, done: Done
) -> None:
    app = shop(bench, done, commit_interval=0.5)
    bench.send("orders", [1])
    async with running(app):
        await until(lambda: done.calls)
        await until(lambda: app.engine.dirty)
        await abort_transaction(app.engine)
        await bench.wait_for("told", 1)
        await until(lambda: not left(bench, app))
    assert done.payloads == [{"order": 1}] * 2  # at least once
    assert len({intent for _, intent in done.calls}) == 1


async def test_too_many_intents_hold_up_their_events(
    bench: Any, running: Any, until: Any, done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamapp.engine.after_commit.WAITING_MAX", 4)
    done.free.clear()
    app = shop(bench, done, commit_events=1)
    bench.send("orders", range(20))
    async with running(app):
        await until(lambda: any(task.held for task in app.engine.tasks))
        (task,) = [task for task in app.engine.tasks if task.held]
        assert len(left(bench, app)) < 20 and len(task) > 0
        done.free.set()
        await bench.wait_for("told", 20)
    assert done.payloads == [{"order": number} for number in range(20)]
