"""An input partition of a task: how far its events have finished, and how much of it waits."""

from __future__ import annotations

from streamapp.engine.record import Record
from streamapp.types import Partition


class Input:
    """How far one input partition of a task has been processed.

    Its fields change at every event, so they are a C structure's and no dictionary's.
    """

    __slots__ = ("append_time", "buffered", "has_finished", "offset", "partition", "room_at")

    def __init__(self, partition: Partition, offset: int) -> None:
        self.partition = partition
        #: Next offset to read, after the units that have finished.
        self.offset = offset
        #: Records that were fetched and have not started.
        self.buffered = 0
        #: It is full, and has room again when no more than so many wait; -1: it is not full.
        self.room_at = -1
        #: Append time (ms) of the last record that finished, if one `has_finished`.
        self.append_time = 0
        self.has_finished = False

    def passed(self, record: Record) -> None:
        """This record is done with."""
        if record.offset >= self.offset:  # with lanes a later event may have finished before
            self.offset = record.offset + 1
            self.append_time = record.appended
            self.has_finished = True

    def forget(self) -> None:
        """Nothing waits, and what finished last never happened; `offset` is set by who knows what is committed."""
        self.buffered = 0
        self.room_at = -1
        self.append_time = 0
        self.has_finished = False
