"""Bring the tables of an assignment up to date with their changelogs, before a task may run (decision 13)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from streamapp.engine.environment import ChangelogFetches, Environment
from streamapp.engine.record import changes_of
from streamapp.engine.worker_state import State
from streamapp.eos.backoff import Backoff, available
from streamapp.eos.cluster import Cluster
from streamapp.eos.recovery import PATIENCE_S, RestorePlan, RestoreProgress, newest_append_times, restore, restore_plans
from streamapp.errors import ConfigurationError, StateCorrupted, Unavailable
from streamapp.failpoints import failpoint
from streamapp.state import StoreIdentity, TablePartition
from streamapp.types import Partition

logger = logging.getLogger(__name__)

#: Seconds between two lines about a restore that is under way.
_PROGRESS_EVERY_S = 2.0
_FETCH_RECORDS = 20_000


class Restoring:
    """How far the restores of this worker are: changelog records, as they are written into the stores."""

    def __init__(self) -> None:
        #: Of every restore since the worker began.
        self.restored = 0
        #: Offsets still to be read, at most; 0 when nothing is being restored.
        self.remaining = 0


class StoreRestorer:
    """Reads changelog partitions, committed records only, straight into the stores."""

    def __init__(
        self,
        fetches: ChangelogFetches,
        stores: Mapping[Partition, TablePartition],
        newest_s: Mapping[Partition, int],
    ) -> None:
        self._fetches = fetches
        self._stores = stores
        #: Append time of the last record of each changelog whose store has a retention.
        self._newest_s = newest_s

    async def fetch(self) -> int:
        """Apply what has come. A store's checkpoint is the position behind it, so a restore can be cut short."""
        fetched = await self._fetches.fetch(_FETCH_RECORDS)
        count = 0
        for tp, records in fetched.items():
            log = Partition(*tp)
            self._stores[log].restore(changes_of(records), records[-1].offset + 1, self._newest_s.get(log))
            count += len(records)
            failpoint("restore.half_done")
        return count

    async def position(self, changelog: Partition) -> int:
        return await self._fetches.position(changelog)


async def restore_stores(
    wanted: Mapping[Partition, StoreIdentity],
    state: State,
    cluster: Cluster,
    environment: Environment,
    stores: dict[Partition, TablePartition],
    retentions_s: Mapping[str, int],
    restoring: Restoring,
) -> None:
    """Bring `stores` (by changelog partition) to hold those of `wanted`, open and complete.

    `stores` is changed as it goes: a restore that is cut short, by the next rebalance, leaves there what is open.
    `retentions_s`: table name -> seconds, for the tables that let go of what is older.
    A store that is damaged, of another format or not of this changelog is wiped and restored from the beginning.
    """
    clock = environment.clock
    kept_s = {log: retentions_s[identity.table] for log, identity in wanted.items() if identity.table in retentions_s}
    for log, identity in wanted.items():
        if log not in stores or stores[log].closed:
            stores[log] = _opened(state, identity, kept_s.get(log))
    plans = await restore_plans(cluster, {log: store.checkpoint for log, store in stores.items()}, clock=clock)
    for log, plan in plans.items():
        if log not in kept_s:
            _refuse_a_truncated_changelog(log, plan, stores[log].checkpoint)
        if plan.wipe is not None:
            logger.warning(
                "the local table %s is deleted and restored from its changelog: %s", stores[log].name, plan.wipe
            )
            stores[log].close()
            stores[log] = _made_anew(state, wanted[log], kept_s.get(log))
    due = {log: plan for log, plan in plans.items() if plan.start < plan.target}
    if due:
        timed = due.keys() & kept_s.keys()
        newest_s = await newest_append_times(cluster, timed, clock=clock) if timed else {}
        try:
            await _read(due, stores, newest_s, cluster, environment, restoring)
        finally:
            restoring.remaining = 0


def _refuse_a_truncated_changelog(log: Partition, plan: RestorePlan, checkpoint: int | None) -> None:
    """`ConfigurationError` if what comes before the first record that is still there cannot be had from anywhere.

    Compaction never moves a log's beginning; only a retention or `kafka-delete-records` does.
    """
    if plan.start > 0 and plan.start != checkpoint:
        raise ConfigurationError(
            f"{log} begins at {plan.start}, and the store on disk "
            f"{'is empty' if checkpoint is None else f'ends at {checkpoint}'}: records of a table that is kept for "
            "ever were deleted, so it cannot be restored. Nothing is processed on wrong values. Set the topic's "
            "cleanup.policy to compact; start this worker with a state directory (DATADIR) that is as old as the "
            "changelog's beginning or newer, or reset the changelog and the group's offsets to process all again."
        )


async def _read(
    due: Mapping[Partition, RestorePlan],
    stores: Mapping[Partition, TablePartition],
    newest_s: Mapping[Partition, int],
    cluster: Cluster,
    environment: Environment,
    restoring: Restoring,
) -> None:
    clock = environment.clock
    before = restoring.restored
    restoring.remaining = sum(plan.record_count for plan in due.values())
    began = last = clock.monotonic()
    total = sum(plan.record_count for plan in due.values())
    restored = 0

    def on_progress(progress: RestoreProgress) -> None:
        nonlocal last, restored
        now, restored = clock.monotonic(), progress.restored
        restoring.restored, restoring.remaining = before + progress.restored, progress.remaining
        if now - last >= _PROGRESS_EVERY_S:
            last = now
            rate = progress.restored / (now - began)
            logger.info(
                "restoring: %s records, %s/s, at most %s left",
                f"{progress.restored:,}",
                f"{rate:,.0f}",
                f"{progress.remaining:,}",
            )

    starts = {log: plan.start for log, plan in due.items()}
    patience = Backoff(clock, "connecting to restore", limit_s=PATIENCE_S, on_limit=Unavailable)
    fetches = await available(patience, lambda: environment.changelogs(starts))
    try:
        await restore(cluster, StoreRestorer(fetches, stores, newest_s), due, clock=clock, on_progress=on_progress)
    finally:
        await fetches.close()
    logger.info(
        "restored %d stores, %s changelog offsets with %s records in %.1f s",
        len(due),
        f"{total:,}",
        f"{restored:,}",
        clock.monotonic() - began,
    )


def _opened(state: State, identity: StoreIdentity, retention_s: int | None) -> TablePartition:
    try:
        return state.open_partition(identity, retention_s)
    except StateCorrupted as exc:
        logger.warning("the local table %s is deleted and restored from its changelog: %s", identity.name, exc)
        return _made_anew(state, identity, retention_s)


def _made_anew(state: State, identity: StoreIdentity, retention_s: int | None) -> TablePartition:
    state.wipe(identity.table, identity.partition)
    return state.open_partition(identity, retention_s)
