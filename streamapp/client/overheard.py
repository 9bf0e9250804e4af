"""What aiokafka's fetcher does not say: the leader epochs of what it fetches; and what it must not do: seek.

It knows no leader epoch, and where a partition has no position it takes the group's offset, or one end of the log. The
driver knows better, and seeks every partition of an assignment.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from typing import Any

from aiokafka.protocol.fetch import FetchRequest

from streamapp.eos.positions import NO_EPOCH
from streamapp.types import Partition

#: Of a record batch's head: the length of what follows it, and the leader epoch (KIP-320).
_LENGTH_AND_EPOCH = struct.Struct(">8xii")
_UNCOUNTED = 12


class Overheard:
    """aiokafka's client, for its fetcher. `saw(partition, offset, epoch)` hears of each answer with records in it.

    `offset` is the one that was asked for, `epoch` that of the last batch. Told before anybody can read the answer.
    """

    def __init__(self, client: Any, saw: Callable[[Partition, int, int], None]) -> None:
        self._client = client
        self._saw = saw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node: int, request: Any, **options: Any) -> Any:
        """Send a request, and listen to the answer to a fetch."""
        answer = await self._client.send(node, request, **options)
        if isinstance(request, FetchRequest):
            asked = {(topic, at[0]): at[1] for topic, partitions in request.topics for at in partitions}
            for topic, partitions in answer.topics:
                for number, _, _, *_, raw in partitions:
                    epoch = newest_epoch(raw) if raw else NO_EPOCH
                    if epoch != NO_EPOCH:
                        self._saw(Partition(topic, number), asked[topic, number], epoch)
        return answer


def newest_epoch(raw: bytes) -> int:
    """The leader epoch of the last whole record batch; `NO_EPOCH` where there is none."""
    at, epoch, end = 0, NO_EPOCH, len(raw)
    while at + _LENGTH_AND_EPOCH.size <= end:
        length, found = _LENGTH_AND_EPOCH.unpack_from(raw, at)
        at += _UNCOUNTED + max(0, length)
        if at > end:
            break
        epoch = max(epoch, found)
    return epoch


async def settled_positions(assignment: Any, node: int, tps: Any) -> bool:
    """In place of `Fetcher._update_fetch_positions`: wait until the driver has sought these partitions."""
    with contextlib.suppress(asyncio.CancelledError):  # the assignment is gone; aiokafka's says so, too
        await asyncio.gather(*(assignment.state_value(tp).wait_for_position() for tp in tps))
    return False
