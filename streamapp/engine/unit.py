"""A unit: one event, batch or timer run. What it sends and writes is staged here until it has finished.

Everything an agent does goes through the unit of the coroutine it runs in, so effects of one event cannot end up in
another one's transaction, and a coroutine that was given up can no longer have any.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

from streamapp.eos.record_accumulator import Send
from streamapp.errors import ProcessDied, StreamAppError, interrupts
from streamapp.state.partition import TablePartition
from streamapp.state.unit import StoreTransaction
from streamapp.types import Partition


class UnitMisuse(StreamAppError):
    """A send, a table access or a wait where it cannot be part of a transaction: a mistake in the agent."""


class Unit:
    """The staged effects of one piece of work. `live` is False once it is over: every later use raises."""

    __slots__ = ("entries", "intent_count", "lane", "live", "pending", "records", "sends", "stores", "task", "workers")

    def __init__(self, task: Any, records: list[Any], lane: int = 0) -> None:
        self.task = task
        self.records = records
        self.lane = lane
        #: Deliveries to agents that are not finished yet.
        self.pending = 0
        self.live = True
        self.sends: list[Send] = []
        self.stores: dict[TablePartition, StoreTransaction] = {}
        #: (agent, key, packed mark) of the events an inbox has let through: what FAILED marks are made of.
        self.entries: list[tuple[str, bytes, bytes]] | None = None
        #: Runs of handlers it has asked for.
        self.intent_count = 0
        #: The asyncio tasks that run its agents now; an abort cancels them.
        self.workers: list[asyncio.Task[Any]] = []

    @property
    def unit(self) -> Unit:
        """Itself, as of a delivery: what is current is the one or the other."""
        return self

    def event(self) -> None:
        """Returns None: timers and after-commit handlers have no event."""

    def left(self, worker: asyncio.Task[Any]) -> None:
        """An agent of it is done: an abort has nothing to stop any more."""
        workers = self.workers
        if len(workers) == 1:
            workers.clear()
        else:
            workers.remove(worker)

    def done(self) -> None:
        """One of the unit's deliveries is finished; the last one finishes the unit."""
        if self.live:
            self.pending -= 1
            if not self.pending:
                self.task.finish(self)

    def send(self, record: Send) -> None:
        """Stage one record."""
        if not self.live:
            raise UnitMisuse(_OVER)
        self.sends.append(record)

    def store(self, partition: TablePartition) -> StoreTransaction:
        """The unit's view of one table partition."""
        found = self.stores.get(partition)
        if found is None:
            if not self.live:
                raise UnitMisuse(_OVER)
            found = self.stores[partition] = partition.begin()
        return found

    def drop(self) -> None:
        """Forget what was staged and refuse what the unit's coroutines still try."""
        self.live = False
        self.sends.clear()
        for store in self.stores.values():
            store.drop()

    def give_up(self) -> None:
        """Its transaction is gone, or one of its agents failed: drop it, and stop the others that work for it."""
        self.drop()
        for worker in self.workers:
            if worker is not asyncio.current_task():
                _given_up.add(worker)
                worker.cancel(_GIVEN_UP)
        self.workers.clear()

    def __repr__(self) -> str:
        where = ", ".join(f"{Partition(r.topic, r.partition)}@{r.offset}" for r in self.records[:3])
        return f"<Unit {where or 'timer'}>"


_OVER = (
    "this event is over: it was given up when its transaction was aborted, or it finished before this call. "
    "Nothing was sent or written. Await everything an event starts before the agent asks for the next one."
)

_GIVEN_UP = "the transaction of its event was given up"
#: Tasks that were cancelled by an abort and not by anybody who wants them to end.
_given_up: WeakSet[asyncio.Task[Any]] = WeakSet()


def given_up(task: asyncio.Task[Any]) -> bool:
    """Whether the cancellation the task has just caught was an abort's; it is then taken back, and the task goes on."""
    if task not in _given_up:
        return False
    _given_up.discard(task)
    return task.uncancel() == 0


def is_own_failure(error: BaseException, worker: asyncio.Task[Any], *, is_ending: bool) -> bool:
    """Whether what came out of an agent's coroutine is a failure of its own: not its end, which others ask for.

    A cancellation is one if it is another task's, which the agent has awaited, or if nobody who ends the worker, an
    actor or a transaction has asked for it; it is then taken back. `is_ending`: the worker or the actor is to end.
    """
    kind = type(error)  # not `isinstance`, which would ask the exception itself
    if issubclass(kind, asyncio.CancelledError):
        if not worker.cancelling():
            return True
        unit = current_unit()
        if is_ending or unit is None or not unit.live:
            return False
        while worker.uncancel():
            pass
        return True
    if issubclass(kind, GeneratorExit):  # raised in it, or it is closed from outside
        return asyncio.current_task(worker.get_loop()) is worker
    return not (issubclass(kind, ProcessDied) or interrupts(kind))


#: The delivery the running coroutine has at hand, or its unit where that has none.
_current: ContextVar[Any] = ContextVar("streamapp_at_hand", default=None)
set_current = _current.set
_at_hand = _current.get


def clear_current(worker: asyncio.Task[Any] | None) -> None:
    """The coroutine of this asyncio task has nothing at hand any more.

    No effect while another task runs: the garbage collector closes an abandoned coroutine in the middle of whatever
    runs then, and what is current there is an event of that one's.
    """
    try:
        running = asyncio.current_task()
    except RuntimeError:  # no event loop runs: there is nothing at hand to be taken away
        return
    if running is worker:
        set_current(None)


def current_unit() -> Unit | None:
    """The unit the running coroutine works for, or None."""
    at_hand = _at_hand()
    return None if at_hand is None else at_hand.unit


def event_at_hand() -> Any:
    """The event the running coroutine has at hand, or None. Faust's `current_event()` asks here."""
    at_hand = _current.get()
    return None if at_hand is None else at_hand.event()


def required_unit(doing: str) -> Unit:
    """The current unit. Raises `UnitMisuse` outside of one, because nothing would commit what is done there."""
    unit = current_unit()
    if unit is None:
        raise UnitMisuse(
            f"{doing} outside of an event: no transaction would carry it. "
            "Do it in an agent's loop or in a timer, or start no coroutine that outlives the event."
        )
    return unit
