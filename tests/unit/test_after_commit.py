"""`after_commit` without a broker: rows, order, pauses, registering, and test contexts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamapp import App, after_commit
from streamapp.delivery.after_commit import Intent, intent_id, ordered, pack, pause_s, unpack
from streamapp.driver.tables.after_commit import AfterCommitCall, run_intent
from streamapp.engine.unit import UnitMisuse
from streamapp.errors import ConfigurationError
from streamapp.settings import load


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> App:
    monkeypatch.chdir(tmp_path)
    return App(settings=load(id="shop"), autodiscover=False)


def test_an_intent_is_read_as_it_was_written() -> None:
    key = intent_id("order", 3, 17, 2)
    assert key == "order-3-0000000000000000017-0002"
    assert unpack(key.encode(), pack("tell", {"a": [1, None]}, 5)) == Intent(key, "tell", {"a": [1, None]}, 5)


def test_ids_of_a_partition_are_in_the_order_of_its_events() -> None:
    ids = [intent_id("order", 0, offset, n) for offset in (0, 9, 10, 2**40, 2**62) for n in (0, 9, 10)]
    assert ids == sorted(ids)


def test_intents_are_ordered_by_number_and_removed_ones_are_left_out() -> None:
    rows = [(b"z", pack("h", 1, 1)), (b"a", pack("h", 2, 2)), (b"b", None), (b"m", pack("h", 0, 0))]
    assert [intent.payload for intent in ordered(rows)] == [0, 1, 2]


def test_pauses_grow_and_are_bounded() -> None:
    pauses = [pause_s(failures) for failures in range(1, 200)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == 30.0 and pauses == sorted(pauses)


def test_handlers_are_named_by_module_and_function_or_as_they_are_told() -> None:
    registry = AfterCommitCall()

    @registry.handler
    async def tell(payload: Any) -> None: ...

    @registry.handler(name="other")
    async def tell_others(payload: Any) -> None: ...

    assert set(registry.handlers) == {f"{__name__}.{tell.__qualname__}", "other"}
    with pytest.raises(ConfigurationError, match="two handlers are called other"):

        @registry.handler(name="other")
        async def tell_more(payload: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="must be an async function"):

        @registry.handler
        def tell_now(payload: Any) -> None: ...


async def test_a_handler_that_is_gone_says_so() -> None:
    with pytest.raises(ConfigurationError, match="no handler tell any more"):
        await run_intent({}, Intent("order-0-1-0", "tell", None, 0))


async def test_a_handler_may_ask_for_the_id() -> None:
    seen: list[Any] = []

    async def plain(payload: Any) -> None:
        seen.append(payload)

    async def careful(payload: Any, intent_id: str) -> None:
        seen.append((payload, intent_id))

    for handler in (plain, careful):
        await run_intent({"h": handler}, Intent("order-0-1-0", "h", 7, 0))
    assert seen == [7, (7, "order-0-1-0")]


def test_outside_of_an_event_it_is_refused() -> None:
    with pytest.raises(UnitMisuse, match="outside of an event"):
        after_commit("tell", {})


async def test_in_a_test_context_awaiting_runs_the_handler(app: App) -> None:
    told: list[Any] = []

    @app.after_commit("tell")
    async def tell(payload: Any) -> None:
        told.append(payload)

    async def unknown(payload: Any) -> None: ...

    @app.agent(app.topic("order"))
    async def book(stream: Any) -> Any:
        async for order in stream:
            await after_commit("tell", {"order": order, "by": ("a", "b")})
            await after_commit(tell, order)
            for wrong in (lambda: after_commit(unknown, 1), lambda: after_commit(tell, object())):
                with pytest.raises(UnitMisuse):
                    wrong()
            yield order

    async with book.test_context() as context, asyncio.timeout(10):
        await context.put(1)
    assert told == [{"order": 1, "by": ["a", "b"]}, 1]


def test_an_app_without_handlers_has_no_table_of_intents(app: App) -> None:
    app.add_intents()
    assert "after-commit" not in app.tables
    app.after_commit("tell")(_tell)
    app.add_intents()
    app.add_intents()
    assert "after-commit" in app.tables


async def _tell(payload: Any) -> None: ...
