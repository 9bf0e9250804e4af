"""The engine of one worker: tasks, the gate, the commit and what follows when it fails. Knows no Faust.

    units finish ──▶ records in the producer's batches, changes in the overlays
    commit due   ──▶ gate closed, last units finish ──▶ sealed, gate open ──▶ eos.commit ──▶ stores

While a sealed transaction is in flight, units go on with the next one, which waits for it (`in_flight.py`); where few
records wait they wait for it, too, and the broker has the processors to itself. An aborted
transaction rewinds every task to its committed offsets; a lost seat drops the tasks. Who owns what is said by the
consumer side (`group.py`). A refused transaction runs again one event at a time (`replay.py`), what an
event did is replaced by its dead letter in `failure.py`, and runs of timers are in `timers.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from streamapp.clock import Clock
from streamapp.engine.after_commit import Intents
from streamapp.engine.barrier import Barrier
from streamapp.engine.commit_schedule import Pace
from streamapp.engine.commit_stats import Commits
from streamapp.engine.dead_letter_counts import Letters
from streamapp.engine.environment import Consumer
from streamapp.engine.failure import replace_by_dead_letter
from streamapp.engine.gate import Gate
from streamapp.engine.in_flight import Sealed, moved_offsets
from streamapp.engine.open_transaction import Merging
from streamapp.engine.positions import Positions
from streamapp.engine.replay import Replay
from streamapp.engine.task import Task
from streamapp.engine.timers import Timers
from streamapp.engine.unit import Unit
from streamapp.eos.commit import commit
from streamapp.eos.producer import Producer, Written
from streamapp.eos.protocol import Membership
from streamapp.eos.remedies import ContentRefused
from streamapp.errors import Fenced, InstanceFenced, RecordError, TransactionAborted, brief
from streamapp.failpoints import failpoint
from streamapp.settings import Settings
from streamapp.types import Partition

logger = logging.getLogger(__name__)

#: Units go on beside a commit in flight when more records wait than its units, divided by this.
_WORTH = 8


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
        #: What each commit writes of the inputs' positions; None: nothing.
        self.positions: Positions | None = None
        self.committed: dict[Partition, int] = {}
        #: An error has ended the worker: nothing commits any more, and it must not rejoin.
        self.over = False
        #: Counted by name for metrics and for the operator's page of errors.
        self.counts: dict[str, int] = {}
        #: Dead letters by topic and kind.
        self.letters = Letters(clock.monotonic)
        self.commits = Commits(clock)
        #: Runs what events want done after their commit; None where no handler is registered.
        self.intents: Intents | None = None
        #: Adds to the open transaction what is due in tables, while nothing runs.
        self.before_commit: Callable[[], None] | None = None
        self._settings = settings
        self._clock = clock
        self._crash = crash
        self._due = asyncio.Event()
        self._pace = Pace(clock.monotonic, settings.commit_interval, settings.commit_events, settings.commit_bytes)
        #: Seconds until a commit is due; infinite while there is nothing to commit.
        self.due_in_s = self._pace.due_in_s
        #: Merge a unit's effects into the open transaction, which grows and may become due.
        self.finished = Merging(producer.filling, self._pace, self.gate, self._follow).merge
        #: Runs of timers, whose sends go with the commits.
        self.timers = Timers(self.gate, self.finished)
        #: Runs the events of a refused transaction one at a time.
        self._replay = Replay(self.gate)
        self._commit_lock = asyncio.Lock()
        self._barrier = Barrier(self.gate, settings.transaction_timeout)
        self._interval: asyncio.TimerHandle | None = None
        #: Sealed, and neither settled nor given up.
        self._in_flight: Sealed | None = None
        #: More records than these have to wait for units to go on beside the one in flight. None: nothing is held back.
        self._held_up_to: int | None = None

    # --- units

    def _follow(self, unit: Unit, is_due: bool) -> None:
        if self.gate.single:
            self._replay.ran(unit)
            self.request_commit()
        elif is_due:
            if self._pace.is_full(self.producer.byte_count):
                self.request_commit()
            else:
                self.commit_due()
        else:
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
        record = unit.records[0]
        is_shown = self.letters.note(record.topic, record.partition, record.offset, error)
        topics = self.producer.filling.topics
        replace_by_dead_letter(unit, error, agent, group=self._settings.id, topics=topics, is_shown=is_shown)
        self.count("dead_letters")
        task.finish(unit)

    def waiting(self) -> None:
        """Records wait for their batch to fill up, or units run that may never finish: a commit is due for them."""
        self._begin_interval()

    def arrived(self) -> None:
        """Records were added to tasks: they start beside the commit in flight once they are enough to be worth it."""
        if self._held_up_to is not None and sum(map(len, self.tasks)) > self._held_up_to:
            self._open()

    def has_room(self, partition: Partition) -> None:
        """Records of this input are wanted again."""
        if self.consumer is not None:
            self.consumer.has_room(partition)

    def count(self, name: str, more: int = 1) -> None:
        """Add to one of the counters."""
        self.counts[name] = self.counts.get(name, 0) + more

    # --- when to commit

    def _begin_interval(self) -> None:
        if not self._pace.running:
            due_at = self._pace.begin()
            self.commits.due(due_at)
            loop = asyncio.get_running_loop()
            self._interval = loop.call_later(due_at - self._clock.monotonic(), self.commit_due)

    def _end_interval(self) -> None:
        self._pace.stop()
        if self._interval is not None:
            self._interval.cancel()

    def commit_due(self) -> None:
        """A commit is due. Units still start while it has to wait for the one in flight, which needs no barrier."""
        if self._in_flight is None:
            self._close()
        self._due.set()

    def request_commit(self) -> None:
        """Commit as soon as the running units have finished; no further one starts before."""
        self._close()
        self._due.set()

    def _close(self) -> None:
        self._held_up_to = None
        for task in self.tasks:
            task.flush()
        self.gate.close()

    async def run(self) -> None:
        """Commit whenever it is due, until cancelled. An error that ends the worker goes to `crash`."""
        while True:
            await self._due.wait()
            try:
                await self.commit()
            except Exception as exc:  # noqa: BLE001 - it ends the worker, with its reason
                self.end(exc)
                return

    def end(self, exc: BaseException) -> None:
        """End the worker with an error. What is open has no effect; what was committed is in Kafka."""
        if not self.over:
            self.over = True
            self._give_up()
            self._crash(exc)

    # --- the commit

    @property
    def barrier_s(self) -> float:
        """Seconds that running units have to finish in, once a commit is due."""
        return self._barrier.bound_s

    @property
    def dirty(self) -> bool:
        """Whether anything has finished that is not committed."""
        return self._in_flight is not None or self._pace.finished > 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, and nothing has finished that is not committed or about to be."""
        return bool(self.tasks) and not (self.dirty or self.gate.running or self._pace.running or self.over)

    def has_moved(self) -> bool:
        """Whether a partition with nothing buffered was read past what is committed, with or without an event."""
        return bool(moved_offsets(self.tasks, self.committed, self.consumer))

    async def commit(self) -> bool:
        """One commit, with everything that has finished. False when it failed and the work was rewound or dropped."""
        async with self._commit_lock:
            self._due.clear()
            if not self.tasks or self.membership is None or self.over:
                return False
            if self._in_flight is not None:
                await self._abort("its commit was cancelled")
                return False
            self._close()
            self._end_interval()
            held_up = await self._barrier.reached(self.tasks)
            if held_up is not None:
                await self._abort(held_up)
                return False
            if self.before_commit is not None and not self.gate.single:
                self.before_commit()
            if not self._pace.finished and (self.gate.single or not self.has_moved()):
                self.commits.settled()
                self._open()
                return True
            return await self._commit()

    async def _commit(self) -> bool:
        """Seal what has finished and commit that, behind the barrier.

        Meanwhile events go on, unless they run one at a time or so few wait that they can wait for it.
        """
        began = self._clock.monotonic()
        try:
            failpoint("K2")
            sealed, count = self._seal()
            if not self.gate.single:
                self._held_up_to = count // _WORTH
                self.arrived()
            assert self.membership is not None
            settle = partial(self._settle, sealed, count, began)
            self.gate.hurried = True
            await commit(self.producer, sealed.offsets, self.membership, settle)
        except ContentRefused as exc:
            if self._replay.refused(exc, sealed.finished):
                self.timers.give_up()
            await self._abort(str(exc))
            return False
        except TransactionAborted as exc:
            await self._abort(str(exc))
            return False
        except InstanceFenced as exc:
            self.lose()
            self.end(exc)
            raise
        except Fenced as exc:
            logger.warning("partitions lost: %s", exc)
            await self._drop()
            return False
        except asyncio.CancelledError:
            if self._in_flight is not None:  # nothing goes on upon what is in doubt; the next commit aborts it
                self._give_up()
                self._due.set()
            raise
        except Exception as exc:
            self.end(exc)
            raise
        finally:
            self.gate.hurried = False
        failpoint("K12")
        if self.gate.single:
            self._replay.committed(self.committed)
            self._open()
        return True

    def _seal(self) -> tuple[Sealed, int]:
        """Part what has finished from what will: the transaction, and how much is in it."""
        if self.intents is not None:
            self.intents.seal()
        self.timers.seal()
        self.commits.sealed()
        count = self._pace.finished
        self._pace.reset()
        self._in_flight = Sealed(
            self.tasks, self.producer, self.changelogs, self.committed, self.consumer, self.positions
        )
        return self._in_flight, count

    def _settle(self, sealed: Sealed, count: int, began: float, written: Mapping[Partition, Written]) -> None:
        """It is committed; what is open may still be lost."""
        sealed.settle(written)
        self.committed.update(sealed.offsets)
        self._in_flight = None
        if self.intents is not None:
            self.intents.committed()
        self.timers.committed()
        self.commits.made(began)
        self.count("commits")
        self.count("events", count)
        if self._held_up_to is not None:
            self._open()

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
        self.owners = {partition: task for task in tasks for partition in task.inputs}
        self.committed = {partition: it.offset for task in tasks for partition, it in task.inputs.items()}
        self.commits.caught_up()
        self._bound_rows()
        if self.intents is not None:
            self.intents.begin(tasks)
        self._open()

    def _bound_rows(self) -> None:
        """Have no event write a row that its changelog, as it is known now, would not take."""
        for task in self.tasks:
            for table, store in task.stores.items():
                store.bytes_max = self.producer.filling.room(self.changelogs[table])

    def _open(self) -> None:
        self._held_up_to = None
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
        self._in_flight = None
        for task in self.tasks:
            for partition, it in task.inputs.items():
                it.offset = self.committed[partition]
        if self.consumer is not None:
            self.consumer.seek(self.committed)
        self._bound_rows()
        self._open()

    def lose(self) -> None:
        """The seat is gone: whatever was open has no effect, and no task is ours any more."""
        if self.intents is not None:
            self.intents.end()
        self._give_up()
        self._in_flight = None
        self._replay.end()
        self.tasks = []
        self.owners = {}
        self.committed = {}
        self.membership = None

    def _give_up(self) -> None:
        """Drop everything uncommitted, and stop the coroutines of the units that run."""
        self.gate.close()
        self._held_up_to = None
        self.producer.forget()
        for task in self.tasks:
            task.give_up()
            for store in task.stores.values():
                store.abort()
        self.gate.reset()
        if self.intents is not None:
            self.intents.aborted()
        self.timers.aborted()
        self._pace.reset()
        self._end_interval()
        self._due.clear()
        self.commits.settled()
