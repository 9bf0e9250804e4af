"""A worker as a process: starts the app, drains it on a signal, and ends in a bounded time with an exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any

from streamapp import native
from streamapp.errors import StreamAppError, brief, interrupts

logger = logging.getLogger(__name__)

#: A drain that takes longer is given up: what was not committed runs again elsewhere. The process ends within 20 s.
DRAIN_TIMEOUT_S = 18.0


class EndedByItself(StreamAppError):
    """Something of the worker failed that nobody had told the app of. The worker ends; nothing is lost."""


def run(worker: Coroutine[Any, Any, int]) -> int:
    """Run a worker's coroutine to its end, in an event loop of its own; returns what it returns.

    `asyncio` ends the loop for a `SystemExit` or a `KeyboardInterrupt` in any task. One that an agent's child task
    raises (`sys.exit()` in a library) is that task's: whoever awaits it gets it, and the loop goes on.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        running = loop.create_task(worker, name="streamapp-worker")
        while True:
            try:
                return loop.run_until_complete(running)
            except (SystemExit, KeyboardInterrupt) as exc:
                if running.done() or interrupts(type(exc)):
                    raise
                logger.error("a task of an agent raised %s; the code that awaits this task receives it", brief(exc))


async def work(app: Any) -> int:
    """Run `app` until SIGTERM, SIGINT or an error that ends it. The exit code: 0 drained, 1 not.

    Raises the error that ended the worker if it is one of ours (`StreamAppError`), after everything is closed.
    """
    app.finalize()
    app.in_worker = True
    app.worker_init()
    if app.conf.autodiscover:
        app.discover()
    logger.info("hot path: %s", f"Python, because {native.reason}" if native.reason else "compiled")
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    running = asyncio.create_task(_run(app), name="streamapp-app")
    asking = asyncio.create_task(asked.wait(), name="streamapp-signal")
    try:
        await asyncio.wait([running, asking], return_when=asyncio.FIRST_COMPLETED)
        if asked.is_set():
            logger.info("draining: running events finish and are committed")
        return await _stopped(app, running)
    finally:
        asking.cancel()


async def _run(app: Any) -> None:
    await app.start()
    # Faust marks every service of the tree when one of them crashes.
    await app.wait_until_stopped()


async def _stopped(app: Any, running: asyncio.Task[None]) -> int:
    """Stop the app in a bounded time. The exit code, or the error of ours that ended it."""
    failure = app.failure
    if running.done() and not running.cancelled() and running.exception() is not None:
        failure = failure or running.exception()
    crashed = app.crash_reason
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            await app.stop()
    except TimeoutError:
        logger.error("not drained within %.0f s: uncommitted events are aborted and will run again", DRAIN_TIMEOUT_S)
        return 1
    finally:
        if not running.done():
            running.cancel()
        await asyncio.wait([running])
    failure = failure or app.failure
    if isinstance(failure, StreamAppError):
        raise failure
    if failure is not None:
        logger.critical("the worker ended with an error", exc_info=failure)
        return 1
    if crashed is not None:
        raise EndedByItself(
            f"A part of the worker failed and ended it: {type(crashed).__name__}: {crashed}. Committed work is safe. "
            "Uncommitted events will run again. See the lines above, fix the cause, and start the worker again."
        ) from crashed
    return 0
