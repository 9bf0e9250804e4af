"""A coroutine that nobody refers to any more is closed by the garbage collector, in the middle of whatever runs then.

What it clears away behind itself must not be the event of the coroutine that runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from streamapp.app import App
from streamapp.driver.app import EngineApp
from streamapp.driver.streams.cursor import StreamCursor
from streamapp.driver.streams.iteration import Iteration
from streamapp.driver.streams.mailbox import Mailbox
from streamapp.engine.after_commit import TaskIntents
from streamapp.engine.unit import Unit, current_unit, set_current
from streamapp.settings import Settings


async def _waits(*_: Any) -> None:
    await asyncio.sleep(100)


def an_actor() -> Any:
    app = App(settings=Settings(id="shop"), autodiscover=False)

    async def agent(stream: Any) -> None: ...

    stream = SimpleNamespace(get_active_stream=lambda: SimpleNamespace(events_total=0))
    actor = SimpleNamespace(stream=stream, should_stop=False)
    return app.agent(app.topic("order"))(agent)._execute_actor(_waits(), actor)


def an_iteration() -> Any:
    stream = SimpleNamespace(hand=StreamCursor(), begin=asyncio.current_task, inbox=None)
    return Iteration(stream, Mailbox()).__anext__()


def a_timer() -> Any:
    timers = SimpleNamespace(begin=lambda: True, end=lambda: None)
    app: Any = SimpleNamespace(engine=SimpleNamespace(timers=timers))
    return EngineApp._as_unit(app, _waits)()


def a_handler() -> Any:
    intents: Any = SimpleNamespace(slots=asyncio.Semaphore(1), run=_waits)
    task: Any = SimpleNamespace(stores={"after-commit": None})
    line = TaskIntents.__new__(TaskIntents)
    line._intents, line._task = intents, task
    return line._run(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("waiting", [an_actor, an_iteration, a_timer, a_handler])
async def test_what_it_clears_away_is_its_own(waiting: Callable[[], Any]) -> None:
    logging.disable(logging.CRITICAL)

    async def begin() -> None:
        nonlocal abandoned
        abandoned = waiting()
        await abandoned

    abandoned: Any = None
    task = asyncio.create_task(begin())
    await asyncio.sleep(0)
    unit = Unit(None, [])
    set_current(unit)
    try:
        abandoned.close()
        assert current_unit() is unit, "it took the event away from the coroutine that runs"
    finally:
        set_current(None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        logging.disable(logging.NOTSET)
