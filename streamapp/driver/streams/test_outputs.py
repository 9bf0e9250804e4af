"""What agents send in test contexts, where no broker takes it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Output(NamedTuple):
    """A record that an agent sent in a test context, as the agent gave it."""

    topic: str
    key: Any
    value: Any
    partition: int | None
    headers: Any


class Outputs(list[Output]):
    """What the agents of an app sent in test contexts, in order."""

    def of(self, topic: str) -> list[Any]:
        """The values sent to one topic."""
        return [output.value for output in self if output.topic == topic]
