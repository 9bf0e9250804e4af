"""Where each partition of an assignment is read on from: asks Kafka what `eos/positions.py` decides by."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Mapping

from streamapp.engine.environment import ChangelogFetches, Environment
from streamapp.engine.positions import Positions
from streamapp.eos.backoff import Backoff, available
from streamapp.eos.cluster import Cluster
from streamapp.eos.positions import FoundPosition, added_partitions, epochs_of, start_of
from streamapp.eos.protocol import OffsetOf
from streamapp.eos.recovery import PATIENCE_S, epoch_ends, listed_offsets, restore, restore_plans, stable_offsets
from streamapp.errors import ConfigurationError, Unavailable
from streamapp.types import Partition

logger = logging.getLogger(__name__)

#: One record is enough to know.
_ROWS = 1


async def starting_offsets(
    cluster: Cluster,
    environment: Environment,
    group: str,
    positions: Positions,
    logs_of: Mapping[Partition, Collection[Partition]],
    counts: Mapping[str, int],
) -> dict[Partition, int]:
    """The offset to begin at, of each partition of `logs_of`: partition -> the changelogs of its task's tables.

    `counts`: topic -> how many partitions it has. `ConfigurationError` with every partition that cannot go on.
    """
    clock, partitions = environment.clock, tuple(logs_of)
    committed = await stable_offsets(cluster, group, partitions, clock=clock)
    await positions.read(cluster, environment)
    if added := added_partitions(positions.known, positions.inputs, group):
        raise ConfigurationError(*added)
    earliest = await listed_offsets(cluster, partitions, OffsetOf.EARLIEST, clock=clock)
    ends = await listed_offsets(cluster, partitions, OffsetOf.HIGH_WATERMARK, clock=clock)
    epochs = epochs_of(partitions, positions.known, positions.topic_ids)
    epoch_end = await epoch_ends(cluster, epochs, clock=clock) if epochs else {}
    unknown = [at for at in partitions if committed[at] is None and at not in positions.known]
    wanted = tuple({log for at in unknown for log in logs_of[at]})
    with_rows = await _with_rows(cluster, environment, wanted) if wanted else frozenset()
    offsets: dict[Partition, int] = {}
    problems: list[str] = []
    for partition in partitions:
        found = FoundPosition(
            partition,
            positions.topic_ids[partition.topic],
            committed[partition],
            positions.known.get(partition),
            earliest[partition],
            ends[partition],
            epoch_end.get(partition),
            has_state=not with_rows.isdisjoint(logs_of[partition]),
            is_new=_is_new(partition, positions, counts),
        )
        try:
            start = start_of(found, group, lags=positions.lags)
        except ConfigurationError as exc:
            problems += exc.problems
            continue
        offsets[partition] = start.offset
        if start.line is not None:
            logger.warning("%s", start.line)
    if problems:
        raise ConfigurationError(*problems)
    return offsets


class _Rows:
    """Reads changelogs for the first committed record of each; what an aborted transaction has left there is none."""

    def __init__(self, fetches: ChangelogFetches) -> None:
        self.found: set[Partition] = set()
        self._fetches = fetches

    async def fetch(self) -> int:
        """Read on."""
        fetched = await self._fetches.fetch(_ROWS)
        self.found.update(Partition(*tp) for tp in fetched)
        return sum(map(len, fetched.values()))

    async def position(self, changelog: Partition) -> int:
        """The offset that is read next; far beyond the end once a record was found."""
        return sys.maxsize if changelog in self.found else await self._fetches.position(changelog)


async def _with_rows(cluster: Cluster, environment: Environment, logs: tuple[Partition, ...]) -> frozenset[Partition]:
    """Those changelogs in which something was committed, if it is still there or not."""
    plans = await restore_plans(cluster, dict.fromkeys(logs), clock=environment.clock)
    aged = {log for log, plan in plans.items() if plan.start > 0}  # only a retention moves the beginning
    due = {log: plan for log, plan in plans.items() if log not in aged and plan.target > 0}
    if not due:
        return frozenset(aged)
    patience = Backoff(environment.clock, "connecting to look at tables", limit_s=PATIENCE_S, on_limit=Unavailable)
    fetches = await available(patience, lambda: environment.changelogs(dict.fromkeys(due, 0)))
    rows = _Rows(fetches)
    try:
        await restore(cluster, rows, due, clock=environment.clock)
    finally:
        await fetches.close()
    return frozenset(aged | rows.found)


def _is_new(partition: Partition, positions: Positions, counts: Mapping[str, int]) -> bool:
    """Whether another input of its task has a position: a commit writes those of all inputs of a task."""
    topic, number = partition
    return any(
        at.number == number and at.topic != topic and counts.get(at.topic, counts[topic]) == counts[topic]
        for at in positions.known
    )
