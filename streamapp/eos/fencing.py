"""Who may commit: the seat in the consumer group, as a snapshot (decision 4).

A member that was frozen, or that lost its partitions without noticing, is refused by the broker only if its commit
carries the generation and member id it had *when the partitions were assigned*. The broker checks the seat, not the
ownership: which partitions' offsets may go into a transaction is for the caller to filter, by its assignment.
"""

from __future__ import annotations

from streamapp.eos.protocol import Membership
from streamapp.errors import Fenced

__all__ = ["Membership", "require_seat", "still_seated"]

_NO_GENERATION = -1


def require_seat(membership: Membership) -> None:
    """Refuse (`Fenced`) a membership without a seat.

    (-1, "") is what aiokafka resets its own to when a heartbeat is rejected, and what the broker takes for a group
    without members, whose commits it does not check at all: a zombie would pass.
    """
    if membership.generation <= _NO_GENERATION or not membership.member_id:
        raise Fenced(
            f"This worker has no seat in group {membership.group} (generation {membership.generation}, member "
            f"{membership.member_id!r}). What is open is aborted; the partitions are dropped until it has rejoined."
        )


def still_seated(snapshot: Membership, live: Membership) -> bool:
    """Whether the partitions of the snapshot are still held, seen from what the consumer now says of itself.

    False means they were *lost*, not given up: no barrier, no commit; abort and drop.
    """
    return (snapshot.group, snapshot.generation, snapshot.member_id) == (live.group, live.generation, live.member_id)
