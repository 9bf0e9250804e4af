"""The engine of one worker: its tasks, what their units lead to, and when a commit is wanted. Knows no Faust.

    units finish ──▶ records in the producer's batches, changes in the overlays of the tables
    commit due   ──▶ the committer: barrier, seal, commit, or abort and rewind (`committer.py`)

Who owns what is said by the consumer side (`group.py`). A refused transaction runs again one event at a time
(`replay.py`), what an event did is replaced by its dead letter in `failure.py`, and runs of timers are in `timers.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from streamapp.clock import Clock
from streamapp.engine.after_commit import AfterCommit
from streamapp.engine.commit_stats import CommitStats
from streamapp.engine.committer import Committer
from streamapp.engine.consumed_offsets import ConsumedOffsets
from streamapp.engine.dead_letter_counts import DeadLetterCounts
from streamapp.engine.environment import Consumer
from streamapp.engine.failure import replace_by_dead_letter
from streamapp.engine.gate import Gate
from streamapp.engine.open_transaction import OpenTransaction
from streamapp.engine.ownership import Ownership
from streamapp.engine.positions import Positions
from streamapp.engine.produced_records import ProducedRecords
from streamapp.engine.table_changes import TableChanges
from streamapp.engine.task import Task
from streamapp.engine.timers import Timers
from streamapp.engine.unit import Unit
from streamapp.eos.producer import Producer
from streamapp.eos.protocol import Membership
from streamapp.errors import RecordError, brief
from streamapp.settings import Settings
from streamapp.types import Partition

logger = logging.getLogger(__name__)


class Engine:
    """One worker's. One event loop; every method that is not async is called from it."""

    def __init__(
        self,
        settings: Settings,
        producer: Producer,
        clock: Clock,
        *,
        crash: Callable[[BaseException], None],
    ) -> None:
        self.gate = Gate()
        self.producer = producer
        self.owned = Ownership()
        #: Counted by name for metrics and for the operator's page of errors.
        self.counts: dict[str, int] = {}
        #: Dead letters by topic and kind.
        self.letters = DeadLetterCounts(clock.monotonic)
        self._settings = settings
        self.committer = Committer(settings, producer, clock, self.owned, self.gate, crash=crash, count=self.count)
        #: Merge a unit's effects into the open transaction, which grows and may become due.
        self.finished = OpenTransaction(
            producer.filling, self.committer.schedule, self.gate, self.committer.follow
        ).merge
        #: Runs of timers, whose sends go with the commits.
        self.timers = Timers(self.gate, self.finished)
        self.committer.register_timers(self.timers)
        for participant in (ConsumedOffsets(), TableChanges(), ProducedRecords(producer)):
            self.committer.register(participant)
        #: What each commit writes of the inputs' positions; None: nothing.
        self.positions: Positions | None = None
        #: Runs what events want done after their commit; None where no handler is registered.
        self.after_commit: AfterCommit | None = None

    def use_positions(self, positions: Positions) -> None:
        """Have each commit write the positions of the inputs."""
        self.positions = positions
        self.committer.register(positions)

    def use_after_commit(self, after_commit: AfterCommit) -> None:
        """Have handlers run after the commits of the events that want them."""
        self.after_commit = after_commit
        self.committer.register(after_commit)

    # --- what is owned

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the owned partitions."""
        return self.owned.tasks

    @property
    def owners(self) -> dict[Partition, Task]:
        """The task of each owned input partition; several partitions share one."""
        return self.owned.tasks_by_input

    @property
    def membership(self) -> Membership | None:
        """The seat in the group; None while nothing is owned."""
        return self.owned.membership

    @property
    def committed(self) -> dict[Partition, int]:
        """The next offset to read of each owned input partition, as it is committed."""
        return self.owned.committed

    @property
    def changelogs(self) -> dict[str, str]:
        """Table name -> its changelog topic."""
        return self.owned.changelogs

    @property
    def consumer(self) -> Consumer | None:
        """Who fetches."""
        return self.owned.consumer

    @property
    def commits(self) -> CommitStats:
        """When commits were due and made."""
        return self.committer.stats

    @property
    def over(self) -> bool:
        """An error has ended the worker: nothing commits any more, and it must not rejoin."""
        return self.committer.cycle.has_ended

    def own(self, membership: Membership, tasks: list[Task]) -> None:
        """These tasks are ready, with their tables and the offsets they begin at: units may start."""
        self.owned.take(membership, tasks)
        self.commits.caught_up()
        self.committer.bound_rows()
        if self.after_commit is not None:
            self.after_commit.begin(tasks)
        self.committer.own()

    # --- units

    def refusal(self, record: Any) -> RecordError | None:
        """Why the broker refused what this record led to, when its event was alone in a transaction."""
        return self.committer.replay.refusal(record)

    def failed(self, unit: Unit, error: BaseException, agent: str | None = None) -> None:
        """Replace a unit's effects by its dead letter, and by a FAILED mark where `agent` has an inbox.

        A failed batch runs again one event at a time.
        """
        if not unit.live:
            return
        task: Task = unit.task
        if len(unit.records) > 1:
            logger.warning("a batch failed; its events run again one at a time: %s", brief(error))
            task.retry(unit)
            return
        record = unit.records[0]
        is_shown = self.letters.note(record.topic, record.partition, record.offset, error)
        topics = self.producer.filling.topics
        replace_by_dead_letter(unit, error, agent, group=self._settings.id, topics=topics, is_shown=is_shown)
        self.count("dead_letters")
        task.finish(unit)

    def waiting(self) -> None:
        """Records wait for their batch to fill up, or units run that may never finish: a commit is due for them."""
        self.committer.begin_interval()

    def arrived(self) -> None:
        """Records were added to tasks."""
        self.committer.records_wait()

    def has_room(self, partition: Partition) -> None:
        """Records of this input are wanted again."""
        if self.owned.consumer is not None:
            self.owned.consumer.has_room(partition)

    def count(self, name: str, more: int = 1) -> None:
        """Add to one of the counters."""
        self.counts[name] = self.counts.get(name, 0) + more

    # --- commits

    @property
    def due_in_s(self) -> Callable[[], float]:
        """Asks for the seconds until a commit is due; infinite while there is nothing to commit."""
        return self.committer.schedule.due_in_s

    @property
    def barrier_s(self) -> float:
        """Seconds that running units have to finish in, once a commit is due."""
        return self.committer.barrier.bound_s

    @property
    def dirty(self) -> bool:
        """Whether anything has finished that is not committed."""
        return self.committer.is_dirty

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, and nothing has finished that is not committed or about to be."""
        is_busy = self.dirty or self.gate.running or self.committer.schedule.running or self.over
        return bool(self.tasks) and not is_busy

    def has_moved(self) -> bool:
        """Whether a partition with nothing buffered was read past what is committed, with or without an event."""
        return self.committer.has_moved()

    def commit_due(self) -> None:
        """A commit is due. Units still start while it has to wait for the one in flight."""
        self.committer.commit_due()

    def request_commit(self) -> None:
        """Commit as soon as the running units have finished; no further one starts before."""
        self.committer.request()

    async def run(self) -> None:
        """Commit whenever it is due, until cancelled."""
        await self.committer.run()

    async def commit(self) -> bool:
        """One commit, with everything that has finished. False when it failed and the work was rewound or dropped."""
        return await self.committer.commit()

    async def commit_all(self) -> bool:
        """Commit everything that has finished, before the partitions are given up. No further event starts."""
        if self.after_commit is not None:
            self.after_commit.end()
        for task in self.tasks:
            task.stop_starting()
        return await self.committer.commit()

    async def drop(self) -> None:
        """The seat is gone: nothing that is open has an effect, and no task is ours any more.

        Raises `InstanceFenced` when somebody newer is this worker: it must not take the seat again (decision 5).
        """
        await self.committer.drop()

    def lose(self) -> None:
        """The partitions are gone: whatever was open has no effect, and no task is ours any more."""
        self.committer.lose()

    def end(self, exc: BaseException) -> None:
        """End the worker with an error. What is open has no effect; what was committed is in Kafka."""
        self.committer.end(exc)
