"""What an assignment asks of Kafka before a task may run (decision 13), in this order:

    1 `stable_offsets`    where to read on, once no transaction on these offsets is undecided
    2 `restore_plans`     *then* how far each changelog goes, and whether the store on disk belongs to it
    3 `restore`           read the changelogs until the consumer's *position* is there

The order matters: a transaction of the previous owner is decided before its changelog's end is looked at, so that end
covers everything that the offsets cover. The target is the high watermark and not the last stable offset, because
behind a dead worker's open transaction lies what others committed; and it is compared with the position and not with
the last record, because a changelog ends in a control record, which nobody ever sees.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import NamedTuple, Protocol

from streamapp.clock import SYSTEM_CLOCK, Clock
from streamapp.eos.backoff import Backoff
from streamapp.eos.cluster import Cluster, NoAnswer
from streamapp.eos.protocol import Code, ListOffsets, ListOffsetsAnswer, OffsetFetch, OffsetOf
from streamapp.eos.remedies import REPEATED, ErrorRemedy, UnexpectedCode, named, remedy, worst
from streamapp.errors import ConfigurationError, Unavailable
from streamapp.types import Partition

log = logging.getLogger(__name__)

#: Longer than a dead worker's transaction stays open: its time-out (10 s), the broker's sweep (10 s), and some.
PATIENCE_S = 60.0

#: Told while something is waited for: the partitions concerned and the seconds so far.
Waiting = Callable[[Collection[Partition], float], None]


async def stable_offsets(
    cluster: Cluster,
    group: str,
    partitions: Collection[Partition],
    *,
    clock: Clock = SYSTEM_CLOCK,
    patience_s: float = PATIENCE_S,
    on_wait: Waiting | None = None,
) -> dict[Partition, int | None]:
    """The committed offset of each partition, None where there is none yet.

    Waits while a transaction that holds offsets of these partitions is undecided (88): what it says could still be
    committed, and to read on from before it would repeat work. `Unavailable` when that takes longer than `patience_s`.
    """
    patience = Backoff(clock, "waiting for undecided offsets", limit_s=patience_s, on_limit=Unavailable)
    found: dict[Partition, int | None] = {}
    while missing := tuple(partition for partition in partitions if partition not in found):
        try:
            answer = await cluster.fetch_offsets(OffsetFetch(group, missing, require_stable=True))
        except NoAnswer as exc:
            await patience.pause(str(exc))
            continue
        code = answer.error or worst(offset.error for offset in answer.offsets.values())
        _refuse(code, f"The committed offsets of group {group} cannot be read")
        for partition, committed in answer.offsets.items():
            if committed.error == Code.NONE:
                found[partition] = committed.offset if committed.offset >= 0 else None
        if code != Code.NONE:
            if on_wait is not None:
                on_wait([partition for partition in missing if partition not in found], patience.waited_s)
            await patience.pause(named(code))
    return found


async def epoch_ends(
    cluster: Cluster, epochs: Mapping[Partition, int], *, clock: Clock = SYSTEM_CLOCK, patience_s: float = PATIENCE_S
) -> dict[Partition, int | None]:
    """Where each of these leader epochs ends in its log; None where the leader does not know that epoch."""
    what = f"asking where leader epochs of {len(epochs)} partitions end"
    patience = Backoff(clock, what, limit_s=patience_s, on_limit=Unavailable)
    while True:
        try:
            ends = await cluster.epoch_ends(epochs)
        except NoAnswer as exc:
            await patience.pause(str(exc))
            continue
        code = worst(end.error for end in ends.values())
        if code == Code.NONE:
            return {partition: end.offset if end.offset >= 0 else None for partition, end in ends.items()}
        _refuse(code, "The leader epochs of the partitions cannot be read")
        await patience.pause(named(code))


class RestorePlan(NamedTuple):
    """How to bring one store up to date with its changelog."""

    #: Offset of the first changelog record to apply.
    start: int
    #: The store is complete when the reader's position is here.
    target: int
    #: Not None: the store does not belong to this changelog. Wipe it first, for this reason.
    wipe: str | None = None

    @property
    def record_count(self) -> int:
        """Records to read at most; compaction and control records make it fewer."""
        return max(0, self.target - self.start)


def restore_plan(checkpoint: int | None, earliest: int, high_watermark: int) -> RestorePlan:
    """What a checkpoint means for a changelog that now goes from `earliest` to `high_watermark`. Pure."""
    if checkpoint is None:
        return RestorePlan(earliest, high_watermark)
    if checkpoint > high_watermark:
        reason = (
            f"its checkpoint {checkpoint} is beyond the changelog's end {high_watermark}: another changelog's store"
        )
        return RestorePlan(earliest, high_watermark, reason)
    if checkpoint < earliest:
        reason = f"the changelog now begins at {earliest}, after its checkpoint {checkpoint}: deletes may be missing"
        return RestorePlan(earliest, high_watermark, reason)
    return RestorePlan(checkpoint, high_watermark)


async def restore_plans(
    cluster: Cluster,
    checkpoints: Mapping[Partition, int | None],
    *,
    clock: Clock = SYSTEM_CLOCK,
    patience_s: float = PATIENCE_S,
) -> dict[Partition, RestorePlan]:
    """A plan for each changelog partition. To be asked for *after* the stable offsets of the same assignment."""
    changelogs = tuple(checkpoints)
    earliest = await listed_offsets(cluster, changelogs, OffsetOf.EARLIEST, clock=clock, patience_s=patience_s)
    ends = await listed_offsets(cluster, changelogs, OffsetOf.HIGH_WATERMARK, clock=clock, patience_s=patience_s)
    return {
        changelog: restore_plan(checkpoint, earliest[changelog], ends[changelog])
        for changelog, checkpoint in checkpoints.items()
    }


async def newest_append_times(
    cluster: Cluster,
    changelogs: Collection[Partition],
    *,
    clock: Clock = SYSTEM_CLOCK,
    patience_s: float = PATIENCE_S,
) -> dict[Partition, int]:
    """The append time of each changelog's last record, seconds; 0 for an empty one. Ask after `restore_plans`."""
    listed = await _listed(cluster, tuple(changelogs), OffsetOf.NEWEST, clock, patience_s)
    return {changelog: max(0, offset.timestamp) // 1000 for changelog, offset in listed.items()}


class ChangelogReader(Protocol):
    """The driver's read_committed consumer over the changelogs, already sought to where the plans start."""

    def fetch(self) -> Awaitable[int]:
        """Read and apply some records, waiting for them a moment at most; returns how many there were."""

    def position(self, changelog: Partition) -> Awaitable[int]:
        """The offset that is read next, past control records and aborted ones."""


class RestoreProgress(NamedTuple):
    """How far a restore is."""

    restored: int
    #: Offsets left until the targets; an upper bound of records.
    remaining: int
    #: Changelogs on which an open transaction below the target is waited out.
    blocked: tuple[Partition, ...] = ()


async def restore(
    cluster: Cluster,
    reader: ChangelogReader,
    plans: Mapping[Partition, RestorePlan],
    *,
    clock: Clock = SYSTEM_CLOCK,
    patience_s: float = PATIENCE_S,
    on_progress: Callable[[RestoreProgress], None] | None = None,
) -> None:
    """Read the changelogs until every position has reached its target, waiting out open transactions below it.

    `Unavailable` when nothing has moved for `patience_s`: every open transaction ends by itself before that, so a
    broker is away or a transaction hangs.
    """
    patience = Backoff(clock, "restoring", limit_s=patience_s, on_limit=Unavailable)
    positions = {changelog: plan.start for changelog, plan in plans.items()}
    restored = 0
    while behind := tuple(changelog for changelog, plan in plans.items() if positions[changelog] < plan.target):
        count = await reader.fetch()
        moved = count > 0
        for changelog in behind:
            position = await reader.position(changelog)
            moved = moved or position > positions[changelog]
            positions[changelog] = position
        restored += count
        blocked: tuple[Partition, ...] = ()
        if moved:
            patience.progressed()
        else:
            blocked = await _blocked(cluster, behind, positions)
        if on_progress is not None:
            remaining = sum(max(0, plan.target - positions[changelog]) for changelog, plan in plans.items())
            on_progress(RestoreProgress(restored, remaining, blocked))
        if not moved:
            names = ", ".join(map(str, blocked or behind))
            await patience.pause(f"an open transaction in {names}" if blocked else f"nothing comes from {names}")


async def _blocked(
    cluster: Cluster, behind: tuple[Partition, ...], positions: Mapping[Partition, int]
) -> tuple[Partition, ...]:
    """Which of them stand at their last stable offset, so that only an open transaction keeps them back."""
    try:
        stable = await cluster.list_offsets(ListOffsets(behind, OffsetOf.LAST_STABLE))
    except NoAnswer:
        return ()
    return tuple(
        changelog
        for changelog in behind
        if stable[changelog].error == Code.NONE and stable[changelog].offset <= positions[changelog]
    )


async def listed_offsets(
    cluster: Cluster,
    partitions: tuple[Partition, ...],
    which: OffsetOf,
    *,
    clock: Clock = SYSTEM_CLOCK,
    patience_s: float = PATIENCE_S,
) -> dict[Partition, int]:
    """One end of each partition, asked until every leader has answered: a new topic may have none for a moment."""
    listed = await _listed(cluster, partitions, which, clock, patience_s)
    return {partition: offset.offset for partition, offset in listed.items()}


async def _listed(
    cluster: Cluster, partitions: tuple[Partition, ...], which: OffsetOf, clock: Clock, patience_s: float
) -> ListOffsetsAnswer:
    what = f"asking for the {which.name.lower()} offsets of {len(partitions)} partitions"
    patience = Backoff(clock, what, limit_s=patience_s, on_limit=Unavailable)
    while True:
        try:
            listed = await cluster.list_offsets(ListOffsets(partitions, which))
        except NoAnswer as exc:
            await patience.pause(str(exc))
            continue
        code = worst(offset.error for offset in listed.values())
        if code == Code.NONE:
            return listed
        _refuse(code, "The ends of the partitions cannot be read")
        await patience.pause(named(code))


def _refuse(code: int, what: str) -> None:
    """Raise for a code that repeating cannot change."""
    found = remedy(code)
    if found is ErrorRemedy.CONFIGURE:
        raise ConfigurationError(f"{what}: {named(code)}. Nothing is processed; mend it and start again.")
    if found is not ErrorRemedy.DONE and found not in REPEATED:
        raise UnexpectedCode(f"{what}: {named(code)}, which has no meaning here.")
