"""What `async for` over a stream runs on: an event is finished when the agent asks for the next one.

It is synchronous between two events: the finished one starts its task's next event, which is in the mailbox before
the loop looks.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

from streamapp import failpoints
from streamapp.arming import ARMED
from streamapp.driver.streams.cursor import StreamCursor
from streamapp.driver.streams.delivery import DispatchedEvent
from streamapp.driver.streams.inbox import Inbox
from streamapp.driver.streams.mailbox import Mailbox
from streamapp.engine.gate import Gate
from streamapp.engine.unit import Unit, clear_current, set_current
from streamapp.errors import is_the_events

#: Events between two turns of the event loop, so that a long backlog starves nobody.
_TURN_EVERY = 256
#: And while a commit is in flight, which needs some twenty turns for the answers to its requests.
_TURN_OFTEN = 16


class Iteration:
    """One iteration of a stream's events, by one coroutine; one that is abandoned leaves nothing to do."""

    __slots__ = ("_gate", "_hand", "_inbox", "_mailbox", "_stream", "_turn", "_unit", "_worker")

    def __init__(self, stream: Any, mailbox: Mailbox) -> None:
        self._stream = stream
        self._mailbox = mailbox
        self._hand: StreamCursor = stream.hand
        self._inbox: Inbox | None = None
        self._worker: Any = None
        self._unit: Unit | None = None
        self._turn = 0
        #: Of the task that the last event is of.
        self._gate: Gate | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            if self._worker is None:
                self._worker = self._stream.begin()
                self._inbox = self._mailbox.inbox = self._stream.inbox
            elif self._unit is not None:
                self._finish()
            mailbox = self._mailbox
            items = mailbox.items
            while True:
                if not items:
                    self._turn = 0
                    self._put_away()
                    await mailbox.wait()
                    continue
                self._turn += 1
                if self._turn > _TURN_OFTEN and (self._turn > _TURN_EVERY or self._is_hurried()):
                    self._turn = 0
                    self._put_away()
                    await asyncio.sleep(0)
                    continue
                unit, delivery = items.popleft()
                if unit.live and (self._inbox is None or self._admitted(unit, delivery)):
                    self._begin(unit, delivery)
                    return delivery.value
        except BaseException:
            if self._unit is None:  # between two events it is the fault of neither, and ends the worker
                self._hand.delivery = None
                clear_current(self._worker)
            raise

    def _put_away(self) -> None:
        """The coroutine is about to wait, and has no event at hand."""
        self._hand.delivery = None
        set_current(None)

    def _is_hurried(self) -> bool:
        return self._gate is not None and self._gate.hurried

    def _admitted(self, unit: Unit, delivery: DispatchedEvent) -> bool:
        """Whether the event is to run. If not, its delivery is over: a repeat, or it failed."""
        try:
            fresh: bool = self._inbox.admit(unit, delivery)  # type: ignore[union-attr]
        except BaseException as exc:
            if not is_the_events(exc):
                raise
            self._stream.app.engine.failed(unit, exc)
            return False
        if not fresh:
            unit.done()
        return fresh

    def _begin(self, unit: Unit, delivery: DispatchedEvent) -> None:
        self._unit = unit
        self._gate = unit.task.gate
        set_current(delivery)
        unit.workers.append(self._worker)
        hand = self._hand
        hand.delivery = delivery
        hand.count += 1
        if ARMED.on:
            failpoints.failpoint("event.before_effects")

    def _finish(self) -> None:
        unit = self._unit
        self._unit = None
        if unit is not None and unit.live:
            unit.left(self._worker)
            unit.done()
