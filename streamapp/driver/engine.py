"""The engine of one worker: tasks, the gate, the commit and what follows when it fails. Knows no Faust.

    units finish ──▶ records in the producer's batches, changes in the overlays
    commit due   ──▶ gate closed, last units finish ──▶ eos.commit ──▶ stores, gate open

An aborted transaction rewinds every task to its committed offsets; a lost seat drops the tasks. Who owns what is
said by the consumer side (`consumer.py`). A refused transaction runs again one event at a time (`replay.py`), what an
event did is replaced by its dead letter in `failure.py`, and runs of timers are in `timers.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from streamapp.clock import Clock
from streamapp.driver.commits import Commits
from streamapp.driver.failure import brief, replace_by_dead_letter
from streamapp.driver.gate import Gate
from streamapp.driver.intents import Intents
from streamapp.driver.merging import Merging
from streamapp.driver.pace import Pace
from streamapp.driver.replay import Replay
from streamapp.driver.task import Task
from streamapp.driver.timers import Timers
from streamapp.driver.unit import Unit
from streamapp.eos.commit import commit
from streamapp.eos.producer import Producer, Written
from streamapp.eos.protocol import Membership
from streamapp.eos.remedies import ContentRefused
from streamapp.errors import Fenced, InstanceFenced, RecordError, StreamAppError, TransactionAborted
from streamapp.failpoints import failpoint
from streamapp.settings import Settings
from streamapp.types import Partition

logger = logging.getLogger(__name__)

#: Part of the transaction time-out that running units have to finish in, once a commit is due.
BARRIER_SHARE = 0.6
#: How often in a row it may be missed before the worker ends.
BARRIERS_MISSED_MAX = 3


class BarrierHeld(StreamAppError):
    """An agent holds up every commit. The worker ends, so that its partitions go to one that can work."""


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


class Engine:
    """See the module. One event loop; every method that is not async is called from it."""

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
        #: The task of each owned input partition; several partitions share one.
        self.owners: dict[Partition, Task] = {}
        self.tasks: list[Task] = []
        #: Table name -> its changelog topic.
        self.changelogs: dict[str, str] = {}
        self.membership: Membership | None = None
        self.consumer: Consumer | None = None
        self.committed: dict[Partition, int] = {}
        #: An error has ended the worker: nothing commits any more, and it must not rejoin.
        self.over = False
        #: Counted by name for metrics and for the operator's page of errors.
        self.counts: dict[str, int] = {}
        self.commits = Commits(clock)
        #: Runs what events want done after their commit; None where no handler is registered.
        self.intents: Intents | None = None
        #: Adds to the open transaction what is due in tables, while nothing runs.
        self.before_commit: Callable[[], None] | None = None
        #: Runs of timers, whose sends go with the commits.
        self.timers = Timers(self.gate, self.finished)
        self._settings = settings
        self._clock = clock
        self._crash = crash
        self._due = asyncio.Event()
        self._pace = Pace(clock.monotonic, settings.commit_interval, settings.commit_events, settings.commit_bytes)
        self._merge = Merging(producer.filling, self._pace).merge
        #: Runs the events of a refused transaction one at a time.
        self._replay = Replay(self.gate)
        self._commit_lock = asyncio.Lock()
        self._barriers_missed = 0

    # --- units

    def finished(self, unit: Unit) -> None:
        """Merge a unit's effects; the transaction grows and may become due."""
        due = self._merge(unit)
        if self.gate.single:
            self._replay.ran(unit)
            self.request_commit()
        elif due:
            self.request_commit()
        elif self._pace.finished == 1:
            self._begin_interval()

    def refusal(self, record: Any) -> RecordError | None:
        """Why the broker refused what this record led to, when its event was alone in a transaction."""
        return self._replay.refusal(record)

    def failed(self, unit: Unit, error: BaseException, agent: str | None = None) -> None:
        """Replace a unit's effects by its dead letter, and by a FAILED mark where `agent` has an inbox.

        A failed batch runs again one event at a time.
        """
        if not unit.live:
            return
        task: Task = unit.task
        if len(unit.records) > 1:
            logger.warning("a batch failed and runs again one event at a time: %s", brief(error))
            task.retry(unit)
            return
        replace_by_dead_letter(unit, error, agent, group=self._settings.id)
        self.count("dead_letters")
        task.finish(unit)

    def waiting(self) -> None:
        """Records wait for their batch to fill up, or units run that may never finish: a commit is due for them."""
        self._begin_interval()

    def count(self, name: str, more: int = 1) -> None:
        """Add to one of the counters."""
        self.counts[name] = self.counts.get(name, 0) + more

    # --- when to commit

    def _begin_interval(self) -> None:
        if not self._pace.running:
            due_at = self._pace.begin()
            self.commits.due(due_at)
            asyncio.get_running_loop().call_later(due_at - self._clock.monotonic(), self._interval_over)

    def _interval_over(self) -> None:
        if self._pace.running:
            self.request_commit()

    def request_commit(self) -> None:
        """Commit as soon as the running units have finished; no further one starts before."""
        for task in self.tasks:
            task.flush()
        self.gate.close()
        self._due.set()

    async def run(self) -> None:
        """Commit whenever it is due, until cancelled. An error that ends the worker goes to `crash`."""
        while True:
            await self._due.wait()
            try:
                await self.commit()
            except Exception as exc:  # noqa: BLE001 - it ends the worker, with its reason
                self.over = True
                self._crash(exc)
                return

    # --- the commit

    @property
    def barrier_s(self) -> float:
        """Seconds that running units have to finish in, once a commit is due."""
        return self._settings.transaction_timeout * BARRIER_SHARE

    @property
    def dirty(self) -> bool:
        """Whether anything has finished since the last commit."""
        return self._pace.finished > 0

    async def commit(self) -> bool:
        """One commit, with everything that has finished. False when it failed and the work was rewound or dropped."""
        async with self._commit_lock:
            self._due.clear()
            self._pace.stop()
            if not self.tasks or self.membership is None or self.over:
                return False
            self.gate.close()
            if self.gate.running:
                failpoint("K8b")
            if not await self.gate.drained(self.barrier_s):
                await self._abort(self._held_up())
                return False
            self._barriers_missed = 0
            if self.before_commit is not None and not self.gate.single:
                self.before_commit()
            if not self._pace.finished:
                self.commits.settled()
                self._open()
                return True
            return await self._commit()

    def _held_up(self) -> str:
        """Who did not finish in time. Raises `BarrierHeld` when that has happened too often in a row."""
        self._barriers_missed += 1
        held = [
            f"{worker.get_name()} at {unit}" for task in self.tasks for unit in task.running for worker in unit.workers
        ]
        who = ", ".join(held) or "an event that no agent takes"
        why = f"not finished within {self.barrier_s:g} s of a commit being due: {who}"
        if self._barriers_missed >= BARRIERS_MISSED_MAX:
            raise BarrierHeld(
                f"{BARRIERS_MISSED_MAX} times in a row {why}. Nothing of it was committed, the events run again at "
                "the next start. Bound every wait in the agent below that time, or raise STREAMAPP_TRANSACTION_TIMEOUT."
            )
        return why

    async def _commit(self) -> bool:
        began = self._clock.monotonic()
        offsets = self._offsets()
        stores = {
            Partition(self.changelogs[table], task.number): store
            for task in self.tasks
            for table, store in task.stores.items()
            if store.overlay
        }
        assert self.membership is not None

        def settle(written: Mapping[Partition, Written]) -> None:
            if self.intents is not None:
                self.intents.committed()
            for task in self.tasks:
                task.keep_time(self._at_end)
            for changelog, store in stores.items():
                store.commit(written[changelog].next_offset)
            self.committed.update(offsets)

        try:
            failpoint("K2")
            for changelog, store in stores.items():
                topic, number = changelog
                for key, value in store.changes():
                    self.producer.append(topic, number, key, value)
            await commit(self.producer, offsets, self.membership, settle)
        except ContentRefused as exc:
            if self._replay.refused(exc, {at: offset for task in self.tasks for at, offset in task.offsets.items()}):
                self.timers.give_up()
            await self._abort(str(exc))
            return False
        except TransactionAborted as exc:
            await self._abort(str(exc))
            return False
        except InstanceFenced:
            self.lose()
            raise
        except Fenced as exc:
            logger.warning("partitions lost: %s", exc)
            await self._drop()
            return False
        self.commits.made(began)
        self.count("commits")
        self.count("events", self._pace.finished)
        self._pace.reset()
        self.timers.committed()
        failpoint("K12")
        if self.gate.single:
            self._replay.committed(self.committed)
        self._open()
        return True

    def _at_end(self, partition: Partition) -> bool:
        return self.consumer is not None and self.consumer.at_end(partition)

    def _offsets(self) -> dict[Partition, int]:
        """What to commit. A partition with nothing buffered is read up to its position, past control records."""
        offsets: dict[Partition, int] = {}
        for task in self.tasks:
            for partition, finished in task.offsets.items():
                offset = finished
                if not task.buffered.get(partition) and self.consumer is not None:
                    position = self.consumer.position(partition)
                    offset = max(finished, position) if position is not None else finished
                if offset != self.committed.get(partition):
                    offsets[partition] = offset
        if not offsets:  # a timer's transaction carries an owned offset again
            partition, offset = next(iter(self.committed.items()))
            offsets[partition] = offset
        return offsets

    async def commit_all(self) -> bool:
        """Commit everything that has finished, before the partitions are given up. No further event starts."""
        if self.intents is not None:
            self.intents.end()
        for task in self.tasks:
            task.stop_starting()
        return await self.commit()

    async def drop(self) -> None:
        """The seat is gone: nothing that is open has an effect, and no task is ours any more.

        Raises `InstanceFenced` when somebody newer is this worker: it must not take the seat again (decision 5).
        A commit under way is waited for, because a producer serves one at a time; it finds out by itself.
        """
        async with self._commit_lock:
            await self._drop()

    async def _drop(self) -> None:
        if self.membership is not None:
            self.lose()
        await self.producer.confirm()

    def own(self, membership: Membership, tasks: list[Task]) -> None:
        """These tasks are ready, with their tables and the offsets they begin at: open the gate."""
        self.membership = membership
        self.tasks = tasks
        self.owners = {partition: task for task in tasks for partition in task.offsets}
        self.committed = {partition: offset for task in tasks for partition, offset in task.offsets.items()}
        self.commits.caught_up()
        if self.intents is not None:
            self.intents.begin(tasks)
        self._open()

    def _open(self) -> None:
        if self.tasks:
            self.gate.open()
            if not self._pace.finished:
                self.timers.send_again()
            for task in self.tasks:
                task.advance()
            if self.gate.running:
                self.waiting()

    # --- when it fails

    async def _abort(self, why: str) -> None:
        logger.warning("transaction aborted, its events run again: %s", why)
        self.count("aborts")
        await self.producer.abort()
        self.rewind()

    def rewind(self) -> None:
        """Forget what finished since the last commit and read on from the committed offsets."""
        self._give_up()
        for task in self.tasks:
            for partition in task.offsets:
                task.offsets[partition] = self.committed[partition]
        if self.consumer is not None:
            self.consumer.seek(self.committed)
        self._open()

    def lose(self) -> None:
        """The seat is gone: whatever was open has no effect, and no task is ours any more."""
        if self.intents is not None:
            self.intents.end()
        self._give_up()
        self._replay.end()
        self.tasks = []
        self.owners = {}
        self.committed = {}
        self.membership = None

    def _give_up(self) -> None:
        """Drop everything uncommitted, and stop the coroutines of the units that run."""
        self.gate.close()
        for task in self.tasks:
            task.give_up()
            for store in task.stores.values():
                store.abort()
        self.gate.reset()
        if self.intents is not None:
            self.intents.aborted()
        self._pace.reset()
        self._pace.stop()
        self._due.clear()
        self.commits.settled()
