"""What the coroutine that iterates a stream has at hand."""

from __future__ import annotations

from typing import Any


class StreamCursor:
    """`delivery`: the delivery at hand, in a context without a worker Faust's event, or None; and how many there were.

    Apart from the stream, because both change at every event, and a field of a C structure is changed at once.
    """

    __slots__ = ("count", "delivery")

    def __init__(self) -> None:
        self.delivery: Any = None
        self.count = 0
