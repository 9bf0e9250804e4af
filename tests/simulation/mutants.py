"""The engine with one thing done wrong at a time: what the schedules must find."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka.record.util import calc_crc32c_py
from simulation import ChangelogReader, Worker

from streamapp.eos import commit as eos_commit
from streamapp.eos import recovery
from streamapp.eos.cluster import NoAnswer
from streamapp.eos.coordinator import Coordinator
from streamapp.eos.producer import Producer
from streamapp.eos.protocol import (
    NO_IDENTITY,
    Code,
    EndTxnAnswer,
    InitProducerIdAnswer,
    ListOffsets,
    Membership,
    OffsetFetch,
    OffsetOf,
    Produced,
    ProducerIdentity,
)
from streamapp.eos.transaction import TransactionEvent, TransactionState
from streamapp.errors import TransactionAborted
from streamapp.state import StoreTransaction, TablePartition
from streamapp.testing.cluster import MemoryCluster
from streamapp.testing.consumer import MemoryConsumer
from streamapp.types import Partition

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from planted_store import plant_store

Mutant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: list[Mutant] = []


def mutant(function: Mutant) -> Mutant:
    MUTANTS.append(function)
    return function


@mutant
def the_seat_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    """Commits with (-1, ""), as a client that reads aiokafka's membership live does."""
    bind = Coordinator.bind

    async def unchecked(self: Coordinator, offsets: Mapping[Partition, int], membership: Membership) -> None:
        await bind(self, offsets, Membership(membership.group, -1, ""))

    patch.setattr(Coordinator, "bind", unchecked)


@mutant
def offsets_outside_the_transaction(patch: pytest.MonkeyPatch) -> None:
    """The offsets are committed at once and by themselves, before the outputs are."""

    async def apart(self: Coordinator, offsets: Mapping[Partition, int], membership: Membership) -> None:
        self.transaction.apply(TransactionEvent.OFFSETS)
        self._cluster._broker.group(membership.group).offsets.committed.update(offsets)  # type: ignore[attr-defined]

    patch.setattr(Coordinator, "bind", apart)


@mutant
def offsets_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Outputs are committed, what was read is not."""

    async def nothing(self: Coordinator, offsets: Mapping[Partition, int], membership: Membership) -> None:
        self.transaction.apply(TransactionEvent.OFFSETS)

    patch.setattr(Coordinator, "bind", nothing)


def _unanswered_end(patch: pytest.MonkeyPatch, guess: Callable[[Any], EndTxnAnswer]) -> None:
    end = MemoryCluster.end_transaction

    async def guessing(self: MemoryCluster, request: Any) -> EndTxnAnswer:
        try:
            return await end(self, request)
        except NoAnswer:
            return guess(request)

    patch.setattr(MemoryCluster, "end_transaction", guessing)


@mutant
def no_answer_is_success(patch: pytest.MonkeyPatch) -> None:
    """Without an answer to EndTxn the commit is believed to have happened."""

    def success(request: Any) -> EndTxnAnswer:
        producer_id, epoch = request.identity
        return EndTxnAnswer(Code.NONE, ProducerIdentity(producer_id, epoch + 1))

    _unanswered_end(patch, success)


@mutant
def no_answer_is_failure(patch: pytest.MonkeyPatch) -> None:
    """Without an answer to EndTxn the commit is believed not to have happened: the events run again."""
    _unanswered_end(patch, lambda request: EndTxnAnswer(Code.INVALID_TXN_STATE))


@mutant
def a_plain_identity_after_a_doubt(patch: pytest.MonkeyPatch) -> None:
    """Asks for an identity without showing its own, so a fenced twin fences the newer one and goes on."""
    identify = Coordinator._identify

    async def plain(self: Coordinator, identity: ProducerIdentity) -> None:
        await identify(self, NO_IDENTITY)

    patch.setattr(Coordinator, "_identify", plain)


@mutant
def a_fenced_twin_goes_on(patch: pytest.MonkeyPatch) -> None:
    """Takes 90 for "try again with a new identity", and the commit in doubt for done."""
    end = Coordinator.end

    async def on(self: Coordinator, *, committed: bool) -> None:
        init = self._cluster.init_producer_id

        async def newer(request: Any) -> InitProducerIdAnswer:
            return await init(request._replace(identity=NO_IDENTITY))

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(self._cluster, "init_producer_id", newer)
            try:
                await end(self, committed=committed)
            except TransactionAborted:
                return

    patch.setattr(Coordinator, "end", on)


@mutant
def restored_to_the_stable_offset(patch: pytest.MonkeyPatch) -> None:
    """Takes the last stable offset for the changelog's end: what lies behind an open transaction is missing."""
    listing = MemoryCluster.list_offsets

    async def stable(self: MemoryCluster, request: ListOffsets) -> Any:
        which = OffsetOf.LAST_STABLE if request.which is OffsetOf.HIGH_WATERMARK else request.which
        return await listing(self, request._replace(which=which))

    patch.setattr(MemoryCluster, "list_offsets", stable)


@mutant
def restored_uncommitted(patch: pytest.MonkeyPatch) -> None:
    """Reads aborted records of the changelog too."""
    patch.setattr(ChangelogReader, "committed_only", False)


@mutant
def restored_not_at_all_on_a_disk_with_something_on_it(patch: pytest.MonkeyPatch) -> None:
    """Believes a checkpoint to be the end."""
    plan = recovery.restore_plan

    def trusting(checkpoint: int | None, earliest: int, high_watermark: int) -> recovery.RestorePlan:
        found = plan(checkpoint, earliest, high_watermark)
        return found if checkpoint is None else found._replace(target=found.start)

    patch.setattr(recovery, "restore_plan", trusting)


@mutant
def offsets_read_unstable(patch: pytest.MonkeyPatch) -> None:
    """Reads the old offset while the last owner's transaction is undecided, and repeats its work."""
    fetch = MemoryCluster.fetch_offsets

    async def unstable(self: MemoryCluster, request: OffsetFetch) -> Any:
        return await fetch(self, request._replace(require_stable=False))

    patch.setattr(MemoryCluster, "fetch_offsets", unstable)


@mutant
def produce_errors_ignored(patch: pytest.MonkeyPatch) -> None:
    """A batch that was refused does not stop the commit, as on aiokafka's producer."""
    produce = MemoryCluster.produce

    async def deaf(self: MemoryCluster, node: int, request: Any) -> Any:
        answer = await produce(self, node, request)
        return {partition: got._replace(error=Code.NONE) for partition, got in answer.items()}

    patch.setattr(MemoryCluster, "produce", deaf)


@mutant
def lost_produce_answers_ignored(patch: pytest.MonkeyPatch) -> None:
    """A Produce without an answer counts as done."""
    produce = MemoryCluster.produce

    async def hopeful(self: MemoryCluster, node: int, request: Any) -> Any:
        try:
            return await produce(self, node, request)
        except NoAnswer:
            return dict.fromkeys(request.batches, Produced(Code.NONE, 0))

    patch.setattr(MemoryCluster, "produce", hopeful)


@mutant
def a_lost_produce_gets_new_sequences(patch: pytest.MonkeyPatch) -> None:
    """A batch without an answer is built again and appended a second time."""
    produce = MemoryCluster.produce

    async def renumbered(self: MemoryCluster, node: int, request: Any) -> Any:
        try:
            return await produce(self, node, request)
        except NoAnswer:
            again = {partition: _renumbered(bytearray(records)) for partition, records in request.batches.items()}
            return await produce(self, node, request._replace(batches=again))

    patch.setattr(MemoryCluster, "produce", renumbered)


def _renumbered(records: bytearray) -> bytearray:
    """The same records as if they came behind themselves."""
    sequence, count = int.from_bytes(records[53:57]), int.from_bytes(records[57:61])
    records[53:57] = (sequence + count).to_bytes(4)
    records[17:21] = calc_crc32c_py(bytes(records[21:])).to_bytes(4)
    return records


@mutant
def an_abort_nobody_is_told_of(patch: pytest.MonkeyPatch) -> None:
    """Drops what it has and sends no EndTxn, so that the next commit makes it visible, as on aiokafka's producer."""

    async def silent(self: Producer) -> None:
        self.filling.clear()
        self._coordinator.transaction.state = TransactionState.EMPTY

    patch.setattr(Producer, "abort", silent)


@mutant
def written_to_disk_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """Values and checkpoint reach the disk although the transaction may still be aborted."""

    async def early(producer: Any, written: Any, settle: Any) -> None:
        settle(written)
        await producer.end()

    patch.setattr(eos_commit, "_end", early)


@mutant
def the_overlay_survives_an_abort(patch: pytest.MonkeyPatch) -> None:
    """Marks of events that were undone are still seen, so these events have no effect when they run again."""

    def kept(self: TablePartition) -> None:
        self.overlay, self._sealed = {**self._sealed, **self.overlay}, {}

    plant_store(patch, abort=kept)


@mutant
def no_rewind_after_an_abort(patch: pytest.MonkeyPatch) -> None:
    """Goes on reading where it was."""
    undo = Worker._undo

    async def onward(self: Worker, why: str) -> None:
        positions = dict(self.positions)
        await undo(self, why)
        self.positions = positions

    patch.setattr(Worker, "_undo", onward)


@mutant
def the_next_ones_records_survive_an_abort(patch: pytest.MonkeyPatch) -> None:
    """What was sent while the aborted transaction was in flight stays, and goes with the one that does it again."""

    def kept(self: Producer) -> None:
        self._sealed = None

    patch.setattr(Producer, "forget", kept)


@mutant
def the_next_ones_rows_survive_an_abort(patch: pytest.MonkeyPatch) -> None:
    """What was written on the aborted transaction's rows stays."""

    def kept(self: TablePartition) -> None:
        self._sealed = {}

    plant_store(patch, abort=kept)


@mutant
def reads_miss_what_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    """The next transaction's units see what is committed, and not what is about to be."""

    def blind(self: TablePartition) -> StoreTransaction:
        return StoreTransaction(self, self.overlay, self._storage.get)

    plant_store(patch, begin=blind)


@mutant
def sealed_too_late(patch: pytest.MonkeyPatch) -> None:
    """The next transaction has begun when the batches are parted: its first outputs go with offsets below them."""
    seal, produce = Producer.seal, Producer.produce

    async def late(self: Producer) -> Any:
        await asyncio.sleep(0.05)
        seal(self)
        return await produce(self)

    patch.setattr(Producer, "seal", lambda self: None)
    patch.setattr(Producer, "produce", late)


@mutant
def the_offsets_of_the_end(patch: pytest.MonkeyPatch) -> None:
    """The offsets are those of the time when they are sent: of inputs whose outputs are not in the transaction."""
    fly = Worker._fly

    async def late(self: Worker, sealed: Any, membership: Membership) -> None:
        sealed.offsets = self.positions
        await fly(self, sealed, membership)

    patch.setattr(Worker, "_fly", late)


@mutant
def settled_after_the_next_one_was_produced(patch: pytest.MonkeyPatch) -> None:
    """The disk gets a transaction when the next one is on its way, which has no place of its own until then."""
    waiting: dict[Any, Any] = {}

    async def later(producer: Any, written: Any, settle: Any) -> None:
        await producer.end()
        before, waiting[producer] = waiting.get(producer), (settle, written)
        if before is not None:
            before[0](before[1])

    patch.setattr(eos_commit, "_end", later)


@mutant
def lost_partitions_are_kept(patch: pytest.MonkeyPatch) -> None:
    """A worker whose seat is gone goes on with the new seat's membership but its old positions and state."""
    assigned = Worker.assigned

    async def kept(self: Worker, partitions: Any, membership: Membership) -> None:
        before = dict(getattr(self, "kept", {}))
        await assigned(self, partitions, membership)
        self.positions.update({part: offset for part, offset in before.items() if part in self.positions})
        self.rewind = dict(self.positions)

    drop = Worker._drop

    def remembering(self: Worker) -> None:
        if self.positions:
            self.kept = dict(self.positions)  # type: ignore[attr-defined]
        drop(self)

    patch.setattr(Worker, "assigned", kept)
    patch.setattr(Worker, "_drop", remembering)


@mutant
def an_old_assignment_is_taken(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes back with other topics works on what its predecessor read."""
    patch.setattr(MemoryConsumer, "_fits", lambda self, share: True)
