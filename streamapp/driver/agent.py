"""Agents: Faust's, with test contexts that need no broker."""

from __future__ import annotations

from typing import Any, NamedTuple

from faust.agents import Agent as FaustAgent


class Output(NamedTuple):
    """A record that an agent sent in a test context, as the agent gave it."""

    topic: str
    key: Any
    value: Any
    partition: int | None
    headers: Any


class Outputs(list[Output]):
    """What the agents of an app sent since the last test context was opened, in order."""

    def of(self, topic: str) -> list[Any]:
        """The values sent to one topic."""
        return [output.value for output in self if output.topic == topic]


class Agent(FaustAgent):
    """See the module."""

    def test_context(self, *args: Any, **kwargs: Any) -> Any:
        """Faust's test context; what the agent sends is in `app.outputs`, its tables are in memory and empty.

        Example: `async with agent.test_context() as context: await context.put(value)`
        """
        self.app.begin_test()
        return super().test_context(*args, **kwargs)
