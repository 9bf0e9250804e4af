"""A static member's seat in the group, given back: its partitions go to the others at once, not after its session."""

from __future__ import annotations

import logging

from streamapp.clock import Clock
from streamapp.eos.backoff import Backoff
from streamapp.eos.cluster import Cluster, NoAnswer
from streamapp.eos.protocol import Code, Membership
from streamapp.eos.remedies import REMEDIES, REPEATED, named
from streamapp.errors import Unavailable

logger = logging.getLogger(__name__)

#: A worker that drains has 20 s for everything; the session's end does the same for whoever waits no longer.
_GIVE_UP_S = 3.0
#: The seat is not ours any more: taken by a twin, or given back by a request whose answer was lost.
_GONE = (Code.UNKNOWN_MEMBER_ID, Code.FENCED_INSTANCE_ID)


async def give_back(cluster: Cluster, seat: Membership, clock: Clock) -> None:
    """Give the seat of a drained member back; a twin's is left alone. What cannot be done is said and costs time only.

    Nothing is at stake: with the seat or without it, what was committed is what the next owner starts from.
    """
    if seat.instance_id is None or not seat.member_id:
        return
    patience = Backoff(clock, f"giving the seat of {seat.instance_id} back", limit_s=_GIVE_UP_S, on_limit=Unavailable)
    try:
        while (problem := await _tried(cluster, seat)) is not None:
            await patience.pause(problem)
    except Unavailable as exc:
        logger.warning("%s Other workers take its partitions after its session time-out.", exc)


async def _tried(cluster: Cluster, seat: Membership) -> str | None:
    """Ask once. Why it is to be asked again, or None."""
    try:
        code = await cluster.leave_group(seat)
    except NoAnswer as exc:
        return str(exc)
    if code == Code.NONE:
        logger.info("left the group as %s: other workers take its partitions now", seat.instance_id)
    elif code not in _GONE:
        if REMEDIES.get(code) in REPEATED:
            return named(code)
        raise Unavailable(f"The seat of {seat.instance_id} was not given back: {named(code)}.")
    return None
