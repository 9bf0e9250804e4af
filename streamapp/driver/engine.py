"""The engine of one worker: tasks, the gate, the commit and what follows when it fails. Knows no Faust.

    units finish ──▶ records in the producer's batches, changes in the overlays
    commit due   ──▶ gate closed, last units finish ──▶ eos.commit ──▶ stores, gate open

An aborted transaction rewinds every task to its committed offsets; a lost seat drops the tasks. Who owns what is
said by the consumer side (`ownership.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from streamapp.clock import Clock
from streamapp.delivery.dead_letter import Source, dead_letter
from streamapp.delivery.inbox import TABLE as INBOX
from streamapp.delivery.inbox import Mark, Status
from streamapp.driver.gate import Gate
from streamapp.driver.intents import Intents
from streamapp.driver.task import Task
from streamapp.driver.unit import Unit
from streamapp.eos.commit import commit
from streamapp.eos.producer import Producer, Written
from streamapp.eos.protocol import Membership
from streamapp.eos.remedies import ContentRefused
from streamapp.errors import ConfigurationError, Fenced, InstanceFenced, RecordError, StreamAppError, TransactionAborted
from streamapp.failpoints import failpoint
from streamapp.settings import Settings
from streamapp.topics import DEAD_LETTER_ROOM_BYTES, MAX_RECORD_BYTES
from streamapp.types import Partition

logger = logging.getLogger(__name__)

#: Part of the transaction time-out that running units have to finish in, once a commit is due.
BARRIER_SHARE = 0.6
#: How often in a row it may be missed before the worker ends.
BARRIERS_MISSED_MAX = 3
#: Finished units between two looks at the clock.
_CLOCK_EVERY = 32
#: Largest dead letter: the largest record and 64 KiB for where it was and why.
DEAD_LETTER_BYTES_MAX = MAX_RECORD_BYTES + DEAD_LETTER_ROOM_BYTES


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
        #: Runs what events want done after their commit; None where no handler is registered.
        self.intents: Intents | None = None
        self._settings = settings
        self._clock = clock
        self._crash = crash
        self._due = asyncio.Event()
        self._due_at = float("inf")
        self._finished = 0
        #: While the events of a refused transaction run one at a time: up to here.
        self._replaying_until: dict[Partition, int] = {}
        #: ... the place of the event that runs, and why the broker refused what an event led to.
        self._alone: tuple[Partition, int] | None = None
        self._refusals: dict[tuple[Partition, int], RecordError] = {}
        self._commit_lock = asyncio.Lock()
        #: Runs of timers that are under way.
        self._runs = 0
        self._runs_ended = asyncio.Event()
        self._runs_ended.set()
        self._leaving = False
        #: Runs of timers whose sends are in the open transaction.
        self._timers: list[Unit] = []
        self._barriers_missed = 0

    # --- units

    def finished(self, unit: Unit) -> None:
        """Merge a unit's effects; the transaction grows and may become due."""
        append = self.producer.append
        for topic, partition, key, value, headers, timestamp in unit.sends:
            append(topic, partition, key, value, headers, timestamp)
        for store in unit.stores.values():
            store.merge()
        self._finished += 1
        if self.gate.single:
            self._alone = _place(unit.records[0]) if unit.records else None
            self.request_commit()
        else:
            self._look_at_the_clock()

    def refusal(self, record: Any) -> RecordError | None:
        """Why the broker refused what this record led to, when its event was alone in a transaction."""
        return self._refusals.get(_place(record))

    def failed(self, unit: Unit, error: BaseException, agent: str | None = None) -> None:
        """Replace a unit's effects by its dead letter, and by a FAILED mark where `agent` has an inbox.

        A failed batch runs again one event at a time.
        """
        if not unit.live:
            return
        task: Task = unit.task
        if len(unit.records) > 1:
            logger.warning("a batch failed and runs again one event at a time: %s", _brief(error))
            task.retry(unit)
            return
        record = unit.records[0]
        source = Source(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            tuple(record.headers),
        )
        entries = [(key, Mark.unpack(raw)) for name, key, raw in unit.entries or () if name == agent]
        attempts = max((mark.attempts for _, mark in entries), default=1)
        letter = dead_letter(source, error, group=self._settings.id, attempts=attempts, size_max=DEAD_LETTER_BYTES_MAX)
        unit.give_up()
        unit.sends.append((letter.topic, letter.partition, letter.key, letter.value, letter.headers, None))  # type: ignore[arg-type]
        unit.stores.clear()
        if entries:
            store = task.stores[INBOX]
            rows = unit.stores[store] = store.begin()
            for key, mark in entries:
                rows.set(key, mark._replace(status=Status.FAILED).pack())
        self.count("dead_letters")
        if not isinstance(error, RecordError):
            logger.error(
                "%s raised for %s[%d]@%d, which is now in %s",
                _brief(error),
                record.topic,
                record.partition,
                record.offset,
                letter.topic,
                exc_info=error,
            )
        task.finish(unit)

    def waiting(self) -> None:
        """Records wait for their batch to fill up, or units run that may never finish: a commit is due for them."""
        if self._due_at == float("inf"):
            self._set_due_time()

    def begin_timer(self) -> bool:
        """A run of a timer begins; False when the worker is leaving, and it should not."""
        if self._leaving:
            return False
        self._runs += 1
        self._runs_ended.clear()
        return True

    def end_timer(self) -> None:
        """A run is over, whatever came of it."""
        self._runs -= 1
        if not self._runs:
            self._runs_ended.set()

    async def end_timers(self, timeout_s: float) -> None:
        """Begin no further run, and let those under way finish; one that takes longer is given up, as by a crash."""
        self._leaving = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._runs_ended.wait()

    async def finish_timer(self, unit: Unit) -> None:
        """A timer's run is over: what it sent goes with one commit, all of it.

        A run only sends, so it may take its time: it waits for the gate when it ends and not when it begins, and a
        slow one holds up no commit. After an abort it need not run again: its sends go with the next transaction.
        """
        await self.gate.entered()
        unit.live = False
        if unit.sends:
            self._timers.append(unit)
            self.finished(unit)
        self.gate.leave()

    def count(self, name: str, more: int = 1) -> None:
        """Add to one of the counters."""
        self.counts[name] = self.counts.get(name, 0) + more

    # --- when to commit

    def _look_at_the_clock(self) -> None:
        if self._finished == 1 or self._due_at == float("inf"):
            self._set_due_time()
        elif not self._finished % _CLOCK_EVERY and self._clock.monotonic() >= self._due_at:
            self.request_commit()
        settings = self._settings
        if self.producer.byte_count >= settings.commit_bytes or (
            settings.commit_events is not None and self._finished >= settings.commit_events
        ):
            self.request_commit()

    def _set_due_time(self) -> None:
        interval = self._settings.commit_interval
        self._due_at = self._clock.monotonic() + interval
        asyncio.get_running_loop().call_later(interval, self._timer)

    def _timer(self) -> None:
        if self._due_at != float("inf"):
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
        return self._finished > 0

    async def commit(self) -> bool:
        """One commit, with everything that has finished. False when it failed and the work was rewound or dropped."""
        async with self._commit_lock:
            self._due.clear()
            self._due_at = float("inf")
            if not self.tasks or self.membership is None or self.over:
                return False
            self.gate.close()
            if self.gate.running:
                failpoint("K8b")
            if not await self.gate.drained(self.barrier_s):
                await self._abort(self._held_up())
                return False
            self._barriers_missed = 0
            if not self._finished:
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
            await self._replay_one_by_one(exc)
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
        self.count("commits")
        self.count("events", self._finished)
        self._finished = 0
        self._timers.clear()
        failpoint("K12")
        if self.gate.single:
            self._look_at_the_replay()
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
        if self.intents is not None:
            self.intents.begin(tasks)
        self._open()

    def _open(self) -> None:
        if self.tasks:
            self.gate.open()
            if not self._finished:
                again, self._timers = self._timers, []
                for unit in again:  # their transaction was aborted
                    self._timers.append(unit)
                    self.finished(unit)
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

    async def _replay_one_by_one(self, refused: ContentRefused) -> None:
        """Run the interval again, one event a transaction; the event that is then refused alone is dead-lettered."""
        if not self.gate.single:
            self._replaying_until = {at: offset for task in self.tasks for at, offset in task.offsets.items()}
            self.gate.single = True
        elif self._alone is None:
            logger.error("what a timer sent is given up: %s", refused)
        elif self._alone in self._refusals:
            raise ConfigurationError(
                f"Even the dead letter of {self._alone[0]}@{self._alone[1]} was refused. {refused} "
                "Nothing is lost: the event is not committed. Raise the dead-letter topic's max.message.bytes."
            ) from refused
        else:
            self._refusals[self._alone] = RecordError(str(refused), kind="OutputRefused")
        await self._abort(str(refused))

    def _look_at_the_replay(self) -> None:
        if all(self.committed.get(at, until) >= until for at, until in self._replaying_until.items()):
            self._end_replay()

    def _end_replay(self) -> None:
        self.gate.single = False
        self._replaying_until = {}
        self._refusals = {}
        self._alone = None

    def lose(self) -> None:
        """The seat is gone: whatever was open has no effect, and no task is ours any more."""
        if self.intents is not None:
            self.intents.end()
        self._give_up()
        self._end_replay()
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
        self._finished = 0
        self._due_at = float("inf")
        self._due.clear()


def _place(record: Any) -> tuple[Partition, int]:
    return Partition(record.topic, record.partition), record.offset


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
