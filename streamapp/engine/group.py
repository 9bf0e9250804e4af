"""The consumer side of a worker: the seat in the group, fetching, and what happens when partitions come and go.

What the member itself is, aiokafka's consumer or one in memory, is the environment's (`environment.py`).

    revoked  ── seat still held ──▶ barrier, commit                  (the old generation is still accepted)
             ── seat lost ────────▶ drop everything; a worker with INSTANCE asks first whether it is still the newest
    assigned ──▶ stable offsets ──▶ restore ──▶ seek ──▶ gate open   (decision 13; runs beside the heartbeats)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

from streamapp.clock import Clock
from streamapp.engine.engine import Engine
from streamapp.engine.environment import Member
from streamapp.engine.record import Record, arrived, byte_count
from streamapp.engine.task import Task
from streamapp.eos.fencing import still_seated
from streamapp.eos.protocol import Membership
from streamapp.failpoints import failpoint
from streamapp.types import Partition

logger = logging.getLogger(__name__)

#: Records of a partition that may wait in its task before it is full; it has room again at a quarter of them.
BUFFER_HIGH = 4000
#: Bytes that may wait in all tasks of the worker, shared evenly: large records are fewer. One fetch may go above it.
BUFFER_BYTES = 64 << 20
#: Most records one fetch hands over.
FETCH_RECORDS = 4000
_POLL_S = 0.2

#: Makes the tasks of an assignment ready: their tables restored, their offsets where to read on.
Prepare = Callable[[Collection[Partition]], Awaitable[list[Task]]]


class GroupConsumer:
    """One worker's member of its group. `crash` ends the worker with an error that nobody else would see."""

    def __init__(
        self,
        member: Member,
        engine: Engine,
        clock: Clock,
        *,
        prepare: Prepare,
        crash: Callable[[BaseException], None],
    ) -> None:
        self._member = member
        self._engine = engine
        self._clock = clock
        self._prepare = prepare
        self._crash = crash
        self._preparing: asyncio.Task[None] | None = None
        #: False while partitions change hands: what is fetched then is dropped, and sought again before it is True.
        self._accepting = False
        self._closed = False
        #: Assigned, and nothing is fetched of them yet.
        self._paused: set[Partition] = set()
        #: Partitions whose buffer is full.
        self._full: set[Partition] = set()
        #: What was owned before this rebalance, and whether the seat was lost; None: nothing yet.
        self._before: frozenset[Partition] | None = None
        self._lost = False
        engine.owned.consumer = self

    # --- what the engine needs

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Read on from these offsets. A partition that is not assigned any more is left out."""
        assigned = self._member.assignment()
        for partition, offset in offsets.items():
            if partition in assigned:
                self._member.seek(partition, offset)
        self._full.clear()
        self._member.resume(*(partition for partition in self._paused if partition in assigned))
        self._paused.clear()

    def has_room(self, partition: Partition) -> None:
        """A partition that was full has room for more."""
        self._full.discard(partition)
        self._member.wake()

    def position(self, partition: Partition) -> int | None:
        """The next offset to fetch, or None while it is not known.

        While partitions change hands it says nothing of what was processed: what is fetched then is dropped.
        """
        return self._member.position(partition) if self._accepting else None

    def at_end(self, partition: Partition) -> bool:
        """Whether the last fetch of an assigned partition found nothing more; False while that is not known."""
        position, end = self.position(partition), self.end(partition)
        return position is not None and end is not None and position >= end

    def end(self, partition: Partition) -> int | None:
        """The high watermark of an assigned partition, as the last fetch saw it."""
        return self._member.end(partition) if partition in self._member.assignment() else None

    def answered(self, partition: Partition) -> int | None:
        """A mark of the last fetch that was answered for an assigned partition: its time, to be compared only."""
        return None if self.position(partition) is None else self._member.answered(partition)

    def leader_epoch(self, partition: Partition) -> int:
        """The leader epoch of what was fetched last of a partition, or a newer one; -1 where nothing was."""
        return self._member.leader_epoch(partition)

    # --- partitions come and go (called by the member, which would only log what these raise)

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """Give up what is owned: committed if the seat still stands, dropped if it does not."""
        try:
            self._accepting = False
            await self._stop_preparing()
            await self._release()
        except Exception as exc:  # noqa: BLE001 - it ends the worker, with its reason
            self._closed = True
            self._crash(exc)
        if self._closed or self._engine.over:
            # The worker is on its way down and must not take the seat again. aiokafka's routine of coordination ends
            # by this and by nothing else: an error it would only log, and a callback that waits would hang its stop().
            raise asyncio.CancelledError

    async def _release(self) -> None:
        engine = self._engine
        snapshot = engine.membership
        if snapshot is None:
            # Nothing was owned yet, by which a commit would show it: a twin may have taken the seat in the meantime.
            if not (self._closed or engine.over):
                await engine.drop()
            return
        self._before = frozenset(engine.owners)
        self._lost = not still_seated(snapshot, self._member.membership)
        if not self._lost:
            count = len(engine.owners)
            failpoint("revoke.before_commit")
            if await engine.commit_all():
                failpoint("revoke.after_commit")
                logger.info("released %d partitions; all finished events are committed", count)
            engine.lose()
        else:
            logger.warning(
                "partitions lost: %s is no longer a member of the group; uncommitted events are dropped", snapshot
            )
            await engine.drop()

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Take the seat's snapshot and begin to prepare; the gate opens when that is done."""
        if self._closed:
            return
        try:
            partitions = [Partition(*tp) for tp in assigned]
            self._member.pause(*partitions)
            self._paused, self._full = set(partitions), set()
            self._preparing = asyncio.create_task(
                self._take_over(self._member.membership, partitions), name="streamapp-prepare"
            )
        except Exception as exc:  # noqa: BLE001 - it ends the worker, with its reason
            self._crash(exc)

    async def _take_over(self, membership: Membership, partitions: list[Partition]) -> None:
        try:
            began = self._clock.monotonic()
            tasks = await self._prepare(partitions)
            failpoint("assign.before_fetch")
            self.seek({partition: it.offset for task in tasks for partition, it in task.inputs.items()})
            self._accepting = True
            self._engine.own(membership, tasks)
            logger.info(
                "generation %d: owns %s, ready after %.1f s, because %s",
                membership.generation,
                _shown(partitions),
                self._clock.monotonic() - began,
                reason(self._before, partitions, lost=self._lost),
            )
        except Exception as exc:  # noqa: BLE001 - it ends the worker, with its reason
            self._crash(exc)

    async def _stop_preparing(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.wait([self._preparing])
            self._preparing = None

    # --- fetching

    async def run(self) -> None:
        """Fetch until cancelled; a partition whose task is full waits until there is room."""
        while True:
            fetched = await self._member.fetch(_POLL_S, FETCH_RECORDS, self._full)
            # These records lie behind the positions as they are at this instant: aiokafka itself drops what was
            # fetched before a seek. Nothing may be awaited between the two, or they would be of another instant.
            if self._accepting:
                self._hand_over(fetched)
            # A backlog must not keep the loop from everything else.
            await asyncio.sleep(0)

    def _hand_over(self, fetched: Mapping[Any, list[Record]]) -> None:
        owners = self._engine.owners
        share = BUFFER_BYTES // max(1, len(owners))
        if fetched:
            failpoint("fetch.before_events")
        now_ms = int(self._clock.now() * 1000)
        for tp, records in fetched.items():
            arrived(records, now_ms)
            partition = Partition(*tp)
            task = owners.get(partition)
            if task is None:  # the seat was lost, and the consumer has not noticed yet
                continue
            task.add(partition, records)
            most, it = room(records, share), task.inputs[partition]
            if it.buffered > most:
                it.room_at = most // 4
                self._full.add(partition)
        self._engine.arrived()
        if self._engine.gate.running:
            self._engine.waiting()

    async def close(self) -> None:
        """Take no partition from here on; the member itself belongs to whoever made it."""
        self._closed = True
        self._accepting = False
        await self._stop_preparing()


def room(records: list[Record], share: int) -> int:
    """How many records like these may wait within so many bytes."""
    return min(BUFFER_HIGH, share * len(records) // max(1, byte_count(records)))


def reason(before: Collection[Partition] | None, now: Collection[Partition], *, lost: bool) -> str:
    """Why partitions have changed hands, as far as a member can tell: from what it had and what it has."""
    if before is None:
        return "this worker joined the group"
    if lost:
        return "it lost its membership: a heartbeat was late, or a newer worker uses its INSTANCE"
    if len(now) > len(before):
        return "a worker left, or topics came"
    return "a worker joined, or topics went" if len(now) < len(before) else "a worker came back, or a topic has changed"


def _shown(partitions: Iterable[Partition]) -> str:
    """`transfer[0-3], balances[0-3]`: partitions by topic, in ranges."""
    by_topic: dict[str, list[int]] = {}
    for topic, number in sorted(partitions):
        by_topic.setdefault(topic, []).append(number)
    return ", ".join(f"{topic}[{_ranges(numbers)}]" for topic, numbers in by_topic.items()) or "nothing"


def _ranges(numbers: list[int]) -> str:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
