"""Small shared types. No behaviour lives here."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

#: A parsed JSON value.
Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

#: Record headers in the order they were written; names may repeat.
Headers: TypeAlias = "tuple[tuple[str, bytes], ...]"


class Partition(NamedTuple):
    """A topic's partition. Compares equal to any client's own (topic, partition) tuple."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"
