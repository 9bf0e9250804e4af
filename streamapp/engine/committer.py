"""Commits what has finished: when it is due, behind the barrier, with every participant, and what follows a failure.

    due ──▶ barrier ──▶ participants sealed ──▶ eos.commit ──▶ participants committed
                                                    └──▶ aborted: rewind, and the events run again

Which step may follow which is the table of `commit_cycle.py`. While a transaction is in flight, units go on with the
next one, which waits for it; where few records wait they wait for it too, and the broker has the processors to itself.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import insort
from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter

from streamapp.clock import Clock
from streamapp.engine.barrier import Barrier
from streamapp.engine.commit_cycle import CommitCycle, CycleEvent, CycleState
from streamapp.engine.commit_schedule import CommitSchedule
from streamapp.engine.commit_stats import CommitStats
from streamapp.engine.consumed_offsets import moved_offsets
from streamapp.engine.gate import Gate
from streamapp.engine.ownership import Ownership
from streamapp.engine.participant import InFlightTransaction, Participant
from streamapp.engine.replay import Replay
from streamapp.engine.timers import Timers
from streamapp.engine.unit import Unit
from streamapp.eos.commit import commit
from streamapp.eos.producer import Producer, Written
from streamapp.eos.remedies import ContentRefused
from streamapp.errors import Fenced, InstanceFenced, TransactionAborted
from streamapp.failpoints import failpoint
from streamapp.settings import Settings
from streamapp.types import Partition

logger = logging.getLogger(__name__)

#: Units start beside a transaction in flight if at least 1/8 as many records are buffered as it has units.
_WORTH = 8


class Committer:
    """The commit cycle of one worker. One event loop; every method that is not async is called from it.

    `crash` ends the worker with an error, `count` adds to a counter by name.
    """

    def __init__(
        self,
        settings: Settings,
        producer: Producer,
        clock: Clock,
        owned: Ownership,
        gate: Gate,
        *,
        crash: Callable[[BaseException], None],
        count: Callable[[str, int], None],
    ) -> None:
        self.cycle = CommitCycle(gate)
        self.schedule = CommitSchedule(
            clock.monotonic, settings.commit_interval, settings.commit_events, settings.commit_bytes
        )
        self.barrier = Barrier(gate, settings.transaction_timeout)
        self.stats = CommitStats(clock)
        #: Set while a commit is due that `run` has not begun.
        self.due = asyncio.Event()
        self.participants: list[Participant] = []
        self._producer = producer
        self._clock = clock
        self._owned = owned
        self._gate = gate
        self._crash = crash
        self._count = count
        self._lock = asyncio.Lock()
        self._interval: asyncio.TimerHandle | None = None
        #: More records than these have to wait for units to start beside the transaction in flight.
        self._enough = 0
        self._timers: Timers | None = None
        #: Runs the events of a refused transaction one at a time.
        self.replay = Replay(gate)
        self.register(self.replay)
        self.register(self.stats)

    def register(self, participant: Participant) -> None:
        """Have this take part in every transaction from the next seal on."""
        insort(self.participants, participant, key=attrgetter("order"))

    def register_timers(self, timers: Timers) -> None:
        """Have the runs of timers take part, and send again those of an aborted transaction."""
        self._timers = timers
        self.register(timers)

    # --- when to commit

    def follow(self, unit: Unit, is_due: bool) -> None:
        """What a finished unit leads to: an interval that begins, or a commit."""
        if self._gate.single:
            self.replay.ran(unit)
            self.request()
        elif is_due:
            if self.schedule.is_full(self._producer.byte_count):
                self.request()
            else:
                self.commit_due()
        else:
            self.begin_interval()

    def begin_interval(self) -> None:
        """Something waits to be committed."""
        if not self.schedule.running:
            due_at = self.schedule.begin()
            self.stats.due(due_at)
            loop = asyncio.get_running_loop()
            self._interval = loop.call_later(due_at - self._clock.monotonic(), self.commit_due)

    def _end_interval(self) -> None:
        self.schedule.stop()
        if self._interval is not None:
            self._interval.cancel()

    def commit_due(self) -> None:
        """A commit is due. Units still start while it has to wait for the one in flight, which needs no barrier."""
        self._close(CycleEvent.DUE)
        self.due.set()

    def request(self) -> None:
        """Commit as soon as the running units have finished; no further one starts before."""
        self._close(CycleEvent.REQUESTED)
        self.due.set()

    def _close(self, event: CycleEvent) -> None:
        if self.cycle.closes(event):  # what waits for a batch to fill up starts now, and belongs to this commit
            for task in self._owned.tasks:
                task.flush()
        self.cycle.apply(event)

    def records_wait(self) -> None:
        """Records were added to tasks: they start beside the transaction in flight once there are enough of them."""
        if (
            self.cycle.state is CycleState.IN_FLIGHT
            and not self._gate.single
            and sum(map(len, self._owned.tasks)) > self._enough
        ):
            self._step(CycleEvent.ENOUGH_WAIT)

    @property
    def is_dirty(self) -> bool:
        """Whether anything has finished that is not committed."""
        return self.cycle.is_in_flight or self.cycle.state is CycleState.REWINDING or self.schedule.finished > 0

    def has_moved(self) -> bool:
        """Whether a partition with nothing buffered was read past what is committed, with or without an event."""
        return bool(moved_offsets(self._owned))

    # --- the cycle

    async def run(self) -> None:
        """Commit whenever it is due, until cancelled. An error that ends the worker goes to `crash`."""
        while True:
            await self.due.wait()
            try:
                await self.commit()
            except Exception as exc:  # noqa: BLE001 - it ends the worker, with its reason
                self.end(exc)
                return

    def own(self) -> None:
        """Tasks are ready: units may start."""
        self._step(CycleEvent.ASSIGNED)

    async def commit(self) -> bool:
        """One commit, with everything that has finished. False when it failed and the work was rewound or dropped."""
        async with self._lock:
            self.due.clear()
            if not self._owned.tasks or self._owned.membership is None or self.cycle.has_ended:
                return False
            try:
                return await self._commit_once()
            except asyncio.CancelledError:
                self._cancelled()
                raise

    async def _commit_once(self) -> bool:
        if self.cycle.state in (CycleState.IN_DOUBT, CycleState.REWINDING):
            await self._abort("its commit was cancelled")
            return False
        self._close(CycleEvent.REQUESTED)
        self._end_interval()
        owned = self._owned
        held_up = await self.barrier.reached(owned.tasks)
        if self.cycle.state is not CycleState.CLOSING:  # the worker ended meanwhile, or its partitions went
            return False
        if held_up is not None:
            await self._abort(held_up)
            return False
        if not self.schedule.finished and (self._gate.single or not any(p.is_due(owned) for p in self.participants)):
            self.stats.settled()
            self._step(CycleEvent.NOTHING)
            return True
        return await self._commit()

    async def _commit(self) -> bool:
        """Seal what has finished and commit that, behind the barrier."""
        began_at = self._clock.monotonic()
        failpoint("commit.before_changelog")
        try:
            transaction = self._seal(began_at)
            self._enough = transaction.unit_count // _WORTH
            self.records_wait()
            assert self._owned.membership is not None
            settle = partial(self._settle, transaction)
            await commit(self._producer, transaction.offsets, self._owned.membership, settle)
        except ContentRefused as exc:
            if self.replay.refused(exc, transaction.finished) and self._timers is not None:
                self._timers.give_up()
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
        except Exception as exc:
            self.end(exc)
            raise
        failpoint("commit.after_store")
        return True

    def _seal(self, began_at: float) -> InFlightTransaction:
        """Part what has finished from what will."""
        transaction = InFlightTransaction(self._owned, self._producer, self.schedule.finished, began_at)
        for participant in self.participants:
            participant.seal(transaction)
        transaction.unit_count = self.schedule.finished
        self.schedule.reset()
        self.cycle.apply(CycleEvent.SEALED)
        return transaction

    def _settle(self, transaction: InFlightTransaction, written: Mapping[Partition, Written]) -> None:
        """It is committed; what is open may still be lost."""
        if not self.cycle.is_awaited:  # it was given up here: the stores stay behind, and the next start catches up
            return
        transaction.written = written
        for participant in reversed(self.participants):
            participant.committed(transaction)
        self._count("commits", 1)
        self._count("events", transaction.unit_count)
        self._step(CycleEvent.COMMITTED)

    def _step(self, event: CycleEvent) -> None:
        """Take a step of the cycle; start what waits where it opens the gate."""
        if not self.cycle.apply(event):
            return
        if self._timers is not None and not self.schedule.finished:
            self._timers.send_again()
        for task in self._owned.tasks:
            task.advance()
        if self._gate.running:
            self.begin_interval()

    # --- when it fails

    def _cancelled(self) -> None:
        """Who waited is gone: nothing goes on upon what is in doubt; the next commit aborts it, and it is due."""
        was_in_flight = self.cycle.is_in_flight
        self.cycle.apply(CycleEvent.CANCELLED)
        if was_in_flight:
            self._give_up()
        if self.cycle.state in (CycleState.CLOSING, CycleState.IN_DOUBT, CycleState.REWINDING):
            self.due.set()

    async def _abort(self, why: str) -> None:
        """Abort the transaction and read on from the committed offsets."""
        logger.warning("transaction aborted; its events run again: %s", why)
        self._count("aborts", 1)
        self.cycle.apply(CycleEvent.ABORTED)
        await self._producer.abort()
        if self.cycle.state is CycleState.REWINDING:
            self._rewind()

    def _rewind(self) -> None:
        owned = self._owned
        self._give_up()
        for task in owned.tasks:
            for partition, it in task.inputs.items():
                it.offset = owned.committed[partition]
        if owned.consumer is not None:
            owned.consumer.seek(owned.committed)
        self.bound_rows()
        self._step(CycleEvent.REWOUND)

    def bound_rows(self) -> None:
        """Have no event write a row that its changelog, as it is known now, would not take."""
        for task in self._owned.tasks:
            for table, store in task.stores.items():
                store.bytes_max = self._producer.filling.room(self._owned.changelogs[table])

    async def drop(self) -> None:
        """The seat is gone: nothing that is open has an effect, and no task is ours any more.

        Raises `InstanceFenced` when somebody newer is this worker: it must not take the seat again (decision 5).
        A commit under way is waited for, because a producer serves one at a time; it finds out by itself.
        """
        async with self._lock:
            await self._drop()

    async def _drop(self) -> None:
        if self._owned.membership is not None:
            self.lose()
        await self._producer.confirm()

    def lose(self) -> None:
        """The partitions are gone: whatever was open has no effect, and no task is ours any more."""
        self.cycle.apply(CycleEvent.REVOKED)
        self._revoke()
        self._owned.release()

    def end(self, exc: BaseException) -> None:
        """End the worker with an error. What is open has no effect; what was committed is in Kafka."""
        if not self.cycle.has_ended:
            self.cycle.apply(CycleEvent.FAILED)
            self._revoke()
            self._crash(exc)

    def _revoke(self) -> None:
        for participant in self.participants:
            participant.revoked()
        self._give_up()

    def _give_up(self) -> None:
        """Drop everything uncommitted, and stop the coroutines of the units that run."""
        owned = self._owned
        for task in owned.tasks:
            task.give_up()
        for participant in reversed(self.participants):
            participant.aborted(owned)
        self._gate.reset()
        self.schedule.reset()
        self._end_interval()
        self.due.clear()
