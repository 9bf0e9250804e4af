"""What an agent iterates: what goes wrong between two events is neither event's fault."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from streamapp.driver.streams.cursor import StreamCursor
from streamapp.driver.streams.delivery import DispatchedEvent
from streamapp.driver.streams.inbox import Inbox, Rule
from streamapp.driver.streams.iteration import Iteration
from streamapp.driver.streams.mailbox import Mailbox
from streamapp.engine.gate import Gate
from streamapp.engine.record import Record
from streamapp.engine.unit import Unit, current_unit, event_at_hand
from streamapp.errors import StoreError


class Ended:
    """Stands for a task whose store refuses what a unit wrote."""

    gate = Gate()

    def finish(self, unit: Unit) -> None:
        unit.live = False
        raise StoreError("the disk is full")


class Done:
    """Stands for a task that takes what a unit wrote."""

    gate = Gate()

    def finish(self, unit: Unit) -> None:
        unit.live = False


class Broken(Inbox):
    """An inbox that cannot be read for the second event."""

    def __init__(self) -> None:
        super().__init__(Rule("T", "T_POST", "id", None, None), None, "post")  # type: ignore[arg-type]

    def admit(self, unit: Unit, delivery: DispatchedEvent) -> bool:
        if delivery.value == "second":
            raise StoreError("the disk is broken")
        return True


def iteration(inbox: Any, task: Any, *values: str) -> Iteration:
    stream = SimpleNamespace(begin=asyncio.current_task, inbox=inbox, hand=StreamCursor(), app=None)
    mailbox = Mailbox()
    for value in values:
        record = Record("transfer", 0, 0, 0, None, None)
        unit = Unit(task, [record])
        unit.pending = 1
        mailbox.put(unit, DispatchedEvent(None, "key", value, record, unit))
    return Iteration(stream, mailbox)


async def test_an_event_is_at_hand_until_the_next_is_asked_for() -> None:
    events = iteration(None, Ended(), "first")
    assert await anext(events) == "first"
    unit = current_unit()
    assert unit is not None and unit.live
    assert event_at_hand().value == "first"
    assert event_at_hand() is event_at_hand()


async def test_what_fails_while_an_event_is_merged_is_no_event_s_fault() -> None:
    events = iteration(None, Ended(), "first", "second")
    await anext(events)
    with pytest.raises(StoreError, match="full"):
        await anext(events)
    assert current_unit() is None


async def test_what_fails_while_the_next_is_let_in_is_no_event_s_fault() -> None:
    events = iteration(Broken(), Done(), "first", "second")
    await anext(events)
    with pytest.raises(StoreError, match="broken"):
        await anext(events)
    assert current_unit() is None
