"""What a worker finds around it: Kafka, a disk and a clock. The only seam between the engine and where it runs.

`client/environment.py` is the real one. `streamapp.testing` brings another, in memory and on virtual time, so that a
test runs the same worker.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from streamapp.clock import Clock
from streamapp.engine.record import Record
from streamapp.engine.worker_state import State
from streamapp.eos.at_least_once import AtLeastOnceCluster
from streamapp.eos.protocol import Membership
from streamapp.topics import TopicSpec
from streamapp.types import Partition

#: Told how many brokers there are and the partitions of each topic that exists; names the topics there should be.
WantedTopics = Callable[[int, Mapping[str, int]], Mapping[str, TopicSpec]]


class AssignmentListener(Protocol):
    """Told when partitions come and go. `CancelledError` from it ends the membership."""

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """To be given up, or lost already: `Member.membership` says which."""

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """These are ours now."""


class Member(Protocol):
    """A seat in the consumer group, and the fetches of what it owns. Records are read committed only."""

    @property
    def membership(self) -> Membership:
        """The seat as it is now. Snapshot it at assignment; never commit with this."""

    async def subscribe(self, topics: Collection[str], listener: AssignmentListener) -> None:
        """Join the group for these topics; later calls change the topics. `Unavailable` when no broker answers."""

    def assignment(self) -> Collection[Any]:
        """The partitions owned now."""

    def seek(self, partition: Partition, offset: int) -> None:
        """Read on from this offset; what was fetched before is dropped."""

    def pause(self, *partitions: Partition) -> None:
        """Fetch nothing of these."""

    def resume(self, *partitions: Partition) -> None:
        """Fetch from these again."""

    def position(self, partition: Partition) -> int | None:
        """The next offset to fetch, past control records; None while it is not known."""

    def end(self, partition: Partition) -> int | None:
        """The high watermark, as the last fetch has seen it."""

    def answered(self, partition: Partition) -> int | None:
        """A mark of the last fetch that was answered for the partition; another one for each answer."""

    def leader_epoch(self, partition: Partition) -> int:
        """The leader epoch of what was fetched last, or a newer one; -1 where nothing was."""

    async def fetch(
        self, timeout_s: float, record_limit: int, full: Collection[Partition] = ()
    ) -> Mapping[Any, list[Record]]:
        """Records by partition, waiting for the first at most so long, or until `wake()`.

        None of the partitions that are `full`, which is looked at again when something came; what was fetched of them
        is kept for later. `PositionLost` where a partition cannot be read on from its position: it is never another
        one in silence.
        """

    def wake(self) -> None:
        """End the wait of `fetch`: a partition is not full any more."""

    async def close(self) -> None:
        """Leave the group, unless the seat is a static one, and end."""


class ChangelogFetches(Protocol):
    """Reads partitions to their end, committed records only."""

    async def fetch(self, record_limit: int) -> Mapping[Any, list[Record]]:
        """Records by partition, waiting for the first a moment at most."""

    async def position(self, partition: Partition) -> int:
        """The offset that is read next, past control records and aborted ones."""

    async def close(self) -> None:
        """Give the connections back."""


class Environment(Protocol):
    """What a worker gets from around it: a connection, a member, changelogs, topics, a state directory, a clock.

    One worker's; `close()` of what it hands out is the worker's.
    """

    @property
    def clock(self) -> Clock:
        """The worker's clock."""

    def open_state(self) -> State:
        """The state directory of this worker; without INSTANCE the first one that nobody holds."""

    async def connect(self) -> AtLeastOnceCluster:
        """A connection to the cluster. `Unavailable` when no broker answers."""

    def member(self, due_in_s: Callable[[], float]) -> Member:
        """A member of the app's group, not joined yet. `due_in_s`: seconds until a commit is due, for its fetches."""

    async def changelogs(self, starts: Mapping[Partition, int]) -> ChangelogFetches:
        """Fetches of these partitions, from these offsets. `Unavailable` when no broker answers."""

    async def create_topics(self, wanted_of: WantedTopics) -> Iterable[str]:
        """Create what does not exist of the topics `wanted_of` names; returns what was created. Alters nothing.

        `Unavailable` when Kafka cannot now. Some may be created then; asked again, it is done with those.
        """


class Consumer(Protocol):
    """What the engine needs of the consumer side."""

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Read on from these offsets; what was fetched before and not yet handed out is dropped."""

    def position(self, partition: Partition) -> int | None:
        """The next offset to be fetched; control records and aborted ones are behind it."""

    def at_end(self, partition: Partition) -> bool:
        """Whether the last fetch found nothing more, so that what is still to come was appended after it."""

    def answered(self, partition: Partition) -> int | None:
        """A mark of the last fetch that was answered for the partition; another one for each answer."""

    def end(self, partition: Partition) -> int | None:
        """The high watermark as the last fetch saw it."""

    def leader_epoch(self, partition: Partition) -> int:
        """The leader epoch of what was fetched last, or a newer one; -1 where nothing was."""

    def has_room(self, partition: Partition) -> None:
        """Hand over records of this partition again."""
