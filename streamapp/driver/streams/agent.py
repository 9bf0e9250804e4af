"""Faust's agent on our units: it starts again at once, by itself, and never loses the event it was given.

Faust hands a crashed actor to a supervisor, which gives up after 100 restarts a second and may wait five seconds for
the next one. Here the coroutine of an actor is only begun again, in the same asyncio task:

    raised inside an event     the event becomes a dead letter (decision 12), whatever it is that was raised
    raised outside of one      the worker ends: there is no event to blame, and nobody would do the agent's work
    returned or left its loop  the event at hand is finished; with none taken at all, the worker ends
    cancelled by an abort      its event was given up and runs again
    cancelled by nobody        as raised: the agent has awaited a task that was cancelled, or has cancelled itself
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Iterator
from typing import Any, NoReturn

from faust.agents.actor import Actor
from faust.agents.agent import Agent as FaustAgent
from faust.agents.agent import _current_agent
from mode import OneForOneSupervisor

from streamapp.driver.streams.topic import Topic
from streamapp.engine.unit import UnitMisuse, clear_current, current_unit, given_up, is_own_failure
from streamapp.errors import ConfigurationError, StateCorrupted, StoreError, StreamAppError, brief


class AgentEnded(StreamAppError):
    """An agent's function ended or raised where no event is to blame. The worker ends; nothing is lost."""


class Agent(FaustAgent):
    """An agent that is started again at once after a failure, and whose event is never lost."""

    logger = logging.getLogger("faust.agents")

    def test_context(self, *args: Any, **kwargs: Any) -> Any:
        """Faust's test context, without a broker: sends are kept in `app.outputs`, tables and inbox in memory.

        Contexts of one app share them, one after the other too, as if the worker had been started again;
        `app.forget_tests()` empties them.

        Example: `async with agent.test_context() as context: await context.put(value)`
        """
        self.app.begin_test()
        return super().test_context(*args, **kwargs)

    def problems(self) -> Iterator[str]:
        """What of its declaration cannot be done exactly once, each with what to use instead."""
        if self.supervisor_strategy not in (None, OneForOneSupervisor):
            yield (
                f"Agent {self.name}: supervisor_strategy has no meaning here, since an agent that raises is started "
                "again at once and its event is in the dead-letter topic. Leave it out."
            )
        if not isinstance(self.channel, Topic):
            yield (
                f"Agent {self.name}: what waits in a channel in memory is lost with the process, after the event that "
                "sent it was committed. Use a topic: app.topic(...)."
            )
        elif self.channel.pattern is not None:
            yield f"Agent {self.name}: a pattern of topics is not possible. Name them: app.topic('a', 'b')."

    async def _execute_actor(self, coro: Any, aref: Any) -> None:
        _current_agent.set(self)
        task = asyncio.current_task()
        assert task is not None
        task.set_name(f"agent {self.name}")
        going_on = True
        while going_on:
            taken = aref.stream.get_active_stream().events_total
            try:
                await coro
            except BaseException as exc:
                is_ending = self.app.should_stop or self.should_stop or aref.should_stop
                if given_up(task) and not is_ending:
                    pass
                elif is_own_failure(exc, task, is_ending=is_ending):
                    going_on = await self._raised(exc)
                else:
                    raise
            else:
                going_on = self._returned(aref.stream.get_active_stream().events_total > taken)
            finally:
                clear_current(task)
            coro = self._begun_again(aref) if going_on else None

    def _begun_again(self, aref: Any) -> Any:
        aref.it = self.fun(aref.stream)
        return self._slurp(aref, aiter(aref.it)) if isinstance(aref.it, AsyncIterable) else aref.it

    async def _raised(self, exc: BaseException) -> bool:
        """Whether the agent goes on after what it raised."""
        unit = current_unit()
        if issubclass(type(exc), ConfigurationError | StateCorrupted | StoreError):
            self.app.end(exc)
            return False
        if unit is None or self.app.engine is None:
            return self._end_worker(f"raised outside of an event: {brief(exc)}", exc)
        if unit.live:
            await self._on_error(self, exc)
        else:
            self.log.warning("%s raised for an event that is over: %s", self.name, brief(exc))
        return True

    def _returned(self, has_taken: bool) -> bool:
        """Whether the agent goes on after its function came to an end."""
        unit = current_unit()
        if unit is None and not has_taken:
            return self._end_worker("returned without taking an event from its stream", None)
        self.log.warning("%s left its loop; it is started again for the next event", self.name)
        if unit is not None:
            unit.done()
        return True

    def _end_worker(self, why: str, cause: BaseException | None) -> bool:
        error = AgentEnded(f"Agent {self.name} {why}. The worker ends; what was not committed runs again.")
        error.__cause__ = cause
        self.app.end(error)
        return False

    async def on_isolated_partitions_revoked(self, revoked: Any) -> None:
        """Stop the actors of partitions that are gone, and forget them: Faust keeps each one in its lists."""
        gone: list[Actor] = [actor for tp in revoked if (actor := self._actor_by_partition.get(tp)) is not None]
        await super().on_isolated_partitions_revoked(revoked)
        for actor in gone:
            self.supervisor.discard(actor)
            self.app.topics.discard(actor.stream.channel)

    # --- refused: whoever waits for an answer

    async def ask(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnitMisuse(_ASK)

    async def ask_nowait(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnitMisuse(_ASK)

    def kvmap(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnitMisuse(_ASK)

    async def kvjoin(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnitMisuse(_ASK)


_ASK = (
    "ask(), map() and join() are not possible: in an event the answer would wait for the commit that waits for the "
    "event, and Faust's client reads answers that are not committed yet. Use `agent.send(..., reply_to=topic)`, and "
    "read that topic with an agent, or with a consumer of your own that is read_committed."
)
