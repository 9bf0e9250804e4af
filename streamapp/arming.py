"""Whether a plan of faults is there (`failpoints.py`): asked several times an event, so it is a field and no more."""

from __future__ import annotations


class Arming:
    """`on`: a failpoint may do something."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = False


#: This process's.
ARMED = Arming()
