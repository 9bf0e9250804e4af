"""An event loop on virtual time: nothing is waited for, and the order of everything follows from a seed.

When no coroutine can run, the clock jumps to the next timer, so a time-out of minutes takes microseconds. Code runs
in *processes*: whatever a process started (tasks, timers, callbacks) stops when it is frozen, as under SIGSTOP, and
never runs again when it is killed, as under SIGKILL: no `finally`, no `except`. Within a process the order is
asyncio's; between processes the seed decides it.

Read of asyncio beyond its documented calls, here and nowhere else: `BaseEventLoop._run_once`, `_ready`, `_scheduled`,
and of a handle `_run`, `_cancelled`, `_context`, `_when`, `_scheduled`. `tests/unit/test_virtual_loop.py` fails when
they move.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_PROCESS: contextvars.ContextVar[VirtualProcess | None] = contextvars.ContextVar("process", default=None)

#: Timers this close together are due together; asyncio's own resolution is of that order.
_RESOLUTION_S = 1e-9


class Stuck(Exception):
    """Nothing can happen any more: no coroutine is ready and no timer is set, but the run has not ended."""


class VirtualProcess:
    """A part of the program that can be frozen, thawed and killed as the operating system would do it."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.frozen = False
        self.dead = False
        self._loop = loop
        self._context = contextvars.Context()
        self._context.run(_PROCESS.set, self)
        #: What became ready while frozen or dead.
        self.held: list[asyncio.Handle] = []

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Start a coroutine inside this process; all it starts belongs to the process too."""
        context = self._context.copy()
        return context.run(self._loop.create_task, coroutine, name=name or self.name, context=context)

    def freeze(self) -> None:
        """Stop between any two steps, as SIGSTOP does. Timers run out unseen; answers wait in the socket."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on where it stopped, finding everything that came in meanwhile."""
        if not self.dead:
            self.frozen = False
            self._loop.release(self)

    def kill(self) -> None:
        """Stop for ever. What was already sent stays sent."""
        self.dead = True

    def __repr__(self) -> str:
        return f"<Process {self.name}{' dead' if self.dead else ' frozen' if self.frozen else ''}>"


def current_process() -> VirtualProcess | None:
    """The process the running code belongs to."""
    return _PROCESS.get()


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio's loop without a selector; the seed decides between processes that could both go on."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._now_s = 0.0
        self._random = random.Random(seed)  # noqa: S311  (an order that can be repeated, no secret)
        self._ending = False
        self._processes: list[VirtualProcess] = []
        self.defects: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.defects.append(context))

    def time(self) -> float:
        return self._now_s

    def process(self, name: str) -> VirtualProcess:
        """A new process; its code is started by `spawn()`."""
        process = VirtualProcess(self, name)
        self._processes.append(process)
        return process

    def call_outside(self, delay_s: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """A timer of no process: for the world around them, such as a broker, which goes on when its client dies."""
        return self.call_later(delay_s, callback, *args, context=contextvars.Context())

    def release(self, process: VirtualProcess) -> None:
        held, process.held = process.held, []
        self._ready.extend(held)  # type: ignore[attr-defined]

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run it here and now: a thread would bring back real time and its disorder."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001  (it is raised where the future is awaited)
            future.set_exception(exc)
        return future

    def bury(self) -> None:
        """Cancel every task, also of dead and frozen processes, and let them end, so that the loop can be closed."""
        self._ending = True
        tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
        for task in tasks:
            task.cancel()
        for process in self._processes:
            self.release(process)
        if tasks:
            self.run_until_complete(asyncio.wait(tasks, timeout=3600))
        self.run_until_complete(self.shutdown_asyncgens())

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not scheduled:
                raise Stuck(f"nothing is ready and no timer is set at {self._now_s:.3f} s")
            self._now_s = max(self._now_s, scheduled[0]._when)
        due = self._now_s + _RESOLUTION_S
        while scheduled and scheduled[0]._when < due:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        batch = list(ready)
        ready.clear()
        for handle in self._shuffled(batch) if len(batch) > 1 else batch:
            if handle._cancelled:
                continue
            process = handle._context.get(_PROCESS)
            if process is not None and (process.frozen or process.dead) and not self._ending:
                process.held.append(handle)
            else:
                handle._run()

    def _shuffled(self, batch: list[Any]) -> list[Any]:
        """The handles of each process in their order, the processes mixed by the seed."""
        queues: dict[VirtualProcess | None, list[Any]] = {}
        for handle in batch:
            queues.setdefault(handle._context.get(_PROCESS), []).append(handle)
        if len(queues) == 1:
            return batch
        turns = [process for process, queue in queues.items() for _ in queue]
        self._random.shuffle(turns)
        heads = {process: iter(queue) for process, queue in queues.items()}
        return [next(heads[process]) for process in turns]

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no files to watch."""

    def _write_to_self(self) -> None:
        """There is no selector to wake."""


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]], seed: int = 0) -> T:
    """Run `main(loop)` to its end on virtual time. An error nobody awaited is raised at the end."""
    loop = VirtualLoop(seed)
    try:
        result = loop.run_until_complete(main(loop))
        loop.bury()
    except BaseException:
        loop.bury()
        raise
    finally:
        loop.close()
    if loop.defects:
        first = loop.defects[0]
        raise RuntimeError(f"in the background: {first.get('message')}") from first.get("exception")
    return result
