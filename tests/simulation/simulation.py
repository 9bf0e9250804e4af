"""A small service on the real engine core (producer, commit, fencing, recovery), run against faults under a seed.

Each input is an id and a key; it makes two outputs that carry the key's running number, and the new number is state.
State is on a disk of its own a worker, restored from the changelog. Some seeds have an inbox (a mark of the id is
state too, and an id that comes twice has no effect), others none: an inbox would hide work done twice. So one lost,
repeated or torn transaction shows in the outputs, in the numbers or in the changelog.

While a transaction is in flight the next one's inputs are processed on what it has sealed, so whatever happens to it
happens with the next one half done.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from streamapp.engine.consumed_offsets import ConsumedOffsets
from streamapp.engine.input import Input
from streamapp.engine.ownership import Ownership
from streamapp.engine.participant import InFlightTransaction, Participant
from streamapp.engine.produced_records import ProducedRecords
from streamapp.engine.table_changes import TableChanges
from streamapp.eos import commit as eos_commit
from streamapp.eos import recovery
from streamapp.eos.cluster import NoAnswer
from streamapp.eos.producer import Producer, Written
from streamapp.eos.protocol import Membership
from streamapp.eos.transaction import TransactionState
from streamapp.errors import Fenced, InstanceFenced, TransactionAborted, Unavailable
from streamapp.state import MemoryState, StoreIdentity, TablePartition
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.clock import VirtualClock
from streamapp.testing.cluster import MemoryCluster
from streamapp.testing.consumer import MemoryConsumer
from streamapp.testing.faults import Fate, Rates, SeededFaults
from streamapp.testing.loop import VirtualLoop, VirtualProcess, run
from streamapp.types import Partition

INPUT, OUTPUT, CHANGELOG, GROUP, STATE = "input", "output", "changelog", "group", "state"
#: A second input that only a newer version of the service reads. Nothing is sent to it: it is there to be assigned.
LATER = "later"
PARTITIONS = 3
SESSION_TIMEOUT_S = 10.0
#: Longer than any time-out and the broker's sweep together.
SETTLED_S = 40.0
DRAIN_S = 600.0


#: In which calls processes die most.
_DEADLY = ("produce", "commit_offsets", "end_transaction", "end_transaction", "fetch_offsets", "fetch", "leaders")


class Violation(AssertionError):
    """The promise was broken, or the service stands still."""


class Disk:
    """A worker's directory: the partitions of its state, values and checkpoint written in one step."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._state = MemoryState()
        self.partitions: dict[int, TablePartition] = {}

    def open(self) -> None:
        """A process begins on it; the one before is dead."""
        self._state.close()
        self.partitions.clear()

    def partition(self, number: int) -> TablePartition:
        if number not in self.partitions:
            self.partitions[number] = self._state.open_partition(StoreIdentity(GROUP, STATE, number, CHANGELOG))
        return self.partitions[number]

    def wipe(self, number: int) -> None:
        self.partitions.pop(number).close()
        self._state.wipe(STATE, number)

    def stored(self, number: int) -> dict[bytes, bytes]:
        return dict(self.partition(number).committed.items())


class ChangelogReader:
    """Applies the changelogs to the disk."""

    committed_only = True

    def __init__(self, cluster: MemoryCluster, disk: Disk, starts: Mapping[Partition, int]) -> None:
        self._cluster = cluster
        self._disk = disk
        self._positions = dict(starts)

    async def fetch(self) -> int:
        try:
            found = await self._cluster.fetch(self._positions, committed_only=self.committed_only, wait_s=0.2)
        except NoAnswer:
            return 0
        for partition, part in found.items():
            changes = {record.key: record.value for record in part.records}
            self._disk.partition(partition.number).restore(changes.items(), part.position)  # type: ignore[arg-type]
            self._positions[partition] = part.position
        return sum(len(part.records) for part in found.values())

    async def position(self, changelog: Partition) -> int:
        return self._positions[changelog]


class Worker:
    """One process: reads, makes outputs, commits. A `Listener` of its consumer."""

    def __init__(
        self, cluster: MemoryCluster, disk: Disk, instance_id: str | None, topics: tuple[str, ...], schedule: Schedule
    ) -> None:
        self.disk = disk
        self.topics = topics
        self.cluster = cluster
        self.clock = VirtualClock()
        self.membership: Membership | None = None
        #: Next offset to read, and to rewind to, of what is owned.
        self.positions: dict[Partition, int] = {}
        self.rewind: dict[Partition, int] = {}
        #: Counts what was given up: who began before it goes on with nothing.
        self.attempt = 0
        self._offsets, self._tables = ConsumedOffsets(), TableChanges()
        self.in_flight: asyncio.Task[None] | None = None
        self.instance_id = instance_id
        self._plan = schedule.plan
        self._schedule = schedule
        self._random = schedule.random
        self._outcomes = schedule.faults
        self._turn = asyncio.Lock()
        self.producer = Producer(
            cluster,
            f"{GROUP}-{instance_id or disk.name}",
            transaction_timeout_s=self._plan.transaction_timeout_s,
            clock=self.clock,
        )

    async def run(self) -> None:
        self.disk.open()
        try:
            await self.producer.start()
            for topic in (OUTPUT, CHANGELOG):
                await self.producer.ensure(topic)
            consumer = MemoryConsumer(
                self.cluster,
                GROUP,
                dict.fromkeys(self.topics, PARTITIONS),
                self,
                self.clock,
                instance_id=self.instance_id,
                session_timeout_s=SESSION_TIMEOUT_S,
            )
            async with asyncio.TaskGroup() as self._group:
                group = self._group
                group.create_task(consumer.run(), name="consumer")
                group.create_task(self._work(), name="work")
        except* InstanceFenced:
            self._outcomes["ended by a twin"] += 1
        except* Unavailable:
            self._outcomes["ended without a broker"] += 1

    async def assigned(self, partitions: Collection[Partition], membership: Membership) -> None:
        if not {partition.topic for partition in partitions} <= set(self.topics):
            raise Violation(f"{self.topics} are read, and {partitions} were assigned")
        changelogs = {
            Partition(CHANGELOG, part.number): self.disk.partition(part.number).checkpoint for part in partitions
        }
        offsets = await recovery.stable_offsets(self.cluster, GROUP, partitions, clock=self.clock)
        plans = await recovery.restore_plans(self.cluster, changelogs, clock=self.clock)
        for changelog, plan in plans.items():
            if plan.wipe is not None:
                self.disk.wipe(changelog.number)
        reader = ChangelogReader(self.cluster, self.disk, {part: plan.start for part, plan in plans.items()})
        await recovery.restore(self.cluster, reader, plans, clock=self.clock)
        async with self._turn:
            self.membership = membership
            self.positions = {partition: offsets[partition] or 0 for partition in partitions}
            self.rewind = dict(self.positions)

    async def revoked(self, partitions: Collection[Partition]) -> None:
        async with self._turn:
            await self._landed()
            if self.positions != self.rewind:
                self._commit()
                await self._landed()
            self._drop()

    async def lost(self, partitions: Collection[Partition]) -> None:
        if not partitions:
            self._outcomes["asked for another assignment"] += 1
        async with self._turn:
            await self._landed()
            self._drop()
            if (
                self.producer.state is not TransactionState.FENCED
            ):  # the work, which ends the process, found it out first
                await self.producer.confirm()

    async def _work(self) -> None:
        while True:
            if not self.positions:
                await self.clock.sleep(0.2)
                continue
            wanted = dict(self.positions)
            try:
                found = await self.cluster.fetch(wanted, wait_s=2.0, record_limit=self._plan.events_a_commit)
            except NoAnswer:
                await self.clock.sleep(0.1)
                continue
            async with self._turn:
                if wanted == self.positions:
                    await self._process({partition: (part.records, part.position) for partition, part in found.items()})
                    if self._chance(self._plan.agent_failures):
                        await self._landed()
                        if self.positions != self.rewind:
                            await self._undo("agent failed")
                    if self.in_flight is None or self.in_flight.done() or self._chance(0.5):  # else it grows
                        await self._landed()
                        if self.positions != self.rewind:
                            self._commit()

    async def _process(self, found: Mapping[Partition, tuple]) -> None:  # type: ignore[type-arg]
        """Some time passes in the middle of it, in which what is in flight may fail, and this with it."""
        attempt = self.attempt
        for partition, (records, position) in found.items():
            for record in records:
                self._process_one(partition.number, record.key, record.value)
            if records:
                self.positions[partition] = position
                await self.clock.sleep(self._plan.work_s)
                if self.attempt != attempt:
                    return

    def _process_one(self, number: int, key: bytes, name: bytes) -> None:
        rows = self.disk.partition(number).begin()
        if self._plan.inbox:
            if rows.contains(name):
                return
            rows.set(name, b"seen")
        count = int(rows.get(key) or b"0") + 1
        rows.set(key, b"%d" % count)
        rows.merge()
        for leg in range(2):
            self.producer.append(OUTPUT, (count + leg) % PARTITIONS, name, b"%s:%d:%d" % (name, leg, count))

    def _commit(self) -> None:
        """Seal what there is, and let it fly."""
        assert self.membership is not None
        numbers = sorted({partition.number for partition in self.positions})
        owned = Ownership(
            membership=self.membership,
            tasks=[Slice(self, number) for number in numbers],  # type: ignore[misc]
            committed=self.rewind,
            changelogs={STATE: CHANGELOG},
        )
        transaction = InFlightTransaction(owned, self.producer, 0, self.clock.monotonic())
        for participant in self._participants():
            participant.seal(transaction)
        self.in_flight = self._group.create_task(self._fly(transaction, self.membership), name="commit")

    def _participants(self) -> tuple[Participant, ...]:
        return self._offsets, self._tables, ProducedRecords(self.producer)

    async def _landed(self) -> None:
        """Wait for what is in flight; whoever asks is told of its end, too."""
        if self.in_flight is not None:
            await asyncio.shield(self.in_flight)

    async def _fly(self, transaction: InFlightTransaction, membership: Membership) -> None:
        bound_s = self._random.random() if self._chance(self._plan.impatience) else None
        settled = False

        def settle(written: Mapping[Partition, Written]) -> None:
            nonlocal settled
            settled = True
            self._settle(transaction, written)

        try:
            async with asyncio.timeout(bound_s):
                await eos_commit.commit(self.producer, transaction.offsets, membership, settle)
            self._outcomes["committed"] += 1
        except TimeoutError:
            if self.producer.state is TransactionState.COMMITTING:
                raise Unavailable("the outcome is in doubt and nobody answers: the next start will see it") from None
            if not settled:
                await self._undo("interrupted")
        except TransactionAborted:
            await self._undo("aborted")
        except InstanceFenced:
            raise
        except Fenced:
            self._outcomes["fenced"] += 1
            self._drop()

    def _chance(self, probability: float) -> bool:
        return not self._schedule.healed and self._random.random() < probability

    async def _undo(self, why: str) -> None:
        """Give up what is in flight and what is open, and go back to what is committed."""
        self._outcomes[why] += 1
        self._outcomes[f"{why}, the next one half done"] += any(it.changes() for it in self.disk.partitions.values())
        await self.producer.abort()
        self.positions = dict(self.rewind)
        self._give_up()

    def _settle(self, transaction: InFlightTransaction, written: Mapping[Partition, Written]) -> None:
        transaction.written = written
        for participant in reversed(self._participants()):
            participant.committed(transaction)
        self._outcomes["settled, the next one half done"] += any(it.changes() for it in self.disk.partitions.values())

    def _give_up(self) -> None:
        self.attempt += 1
        self.producer.forget()
        for partition in self.disk.partitions.values():
            partition.abort()

    def _drop(self) -> None:
        self.positions, self.rewind = {}, {}
        self._give_up()


class Slice:
    """What a transaction wants of a task: one number of what a worker owns."""

    def __init__(self, worker: Worker, number: int) -> None:
        self.number = number
        self.inputs = {at: Input(at, offset) for at, offset in worker.positions.items() if at.number == number}
        self.stores = {STATE: worker.disk.partition(number)}

    def append_time(self, at_end: object) -> None:
        """No retention."""


class Plan(NamedTuple):
    """What a seed makes of a run."""

    rates: Rates
    workers: int
    static: bool
    inputs: int
    events_a_commit: int
    kills: int
    freezes: int
    twins: int
    marker_delay_s: float
    work_s: float
    inbox: bool
    first_epoch: int
    transaction_timeout_s: float
    agent_failures: float
    #: How often a commit is cancelled on its way.
    impatience: float
    #: Whether workers come back with other topics than they had.
    upgrades: bool

    @classmethod
    def of(cls, generator: random.Random, versions: random.Random) -> Plan:
        """Swarm testing: each seed has some kinds of faults and not others, at rates of its own."""

        def rate(most: float) -> float:
            return generator.random() * most if generator.random() < 0.5 else 0.0

        static = generator.random() < 0.5
        return cls(
            rates=Rates(rate(0.08), rate(0.12), rate(0.1), rate(0.1), rate(0.1), generator.choice((0.001, 0.02, 0.3))),
            workers=generator.choice((1, 2, 2, 3)),
            static=static,
            inputs=generator.randrange(10, 40),
            events_a_commit=generator.choice((1, 3, 10)),
            kills=generator.choice((0, 1, 2, 4)),
            freezes=generator.choice((0, 0, 1, 3)),
            twins=generator.choice((0, 0, 1, 2)) if static else 0,
            marker_delay_s=generator.choice((0.0, 0.05, 2.0)),
            work_s=generator.choice((0.0, 0.0, 0.1, 2.0)),
            inbox=generator.random() < 0.5,
            first_epoch=generator.choice((0, 0, 0, 32_760)),
            transaction_timeout_s=generator.choice((10.0, 10.0, 3.0)),
            agent_failures=rate(0.2),
            impatience=rate(0.3),
            upgrades=static and versions.random() < 0.3,
        )


class DyingFaults(SeededFaults):
    """Also kills its process in the middle of its n-th call of a name: before it is sent, under way, or answered."""

    def __init__(self, generator: random.Random, rates: Rates, loop: VirtualLoop, process: VirtualProcess) -> None:
        super().__init__(generator, rates)
        self._loop = loop
        self._process = process
        self.calls_to_live: dict[str, int] = {}

    def fate(self, call: str) -> Fate:
        fate = super().fate(call)
        if call in self.calls_to_live:
            self.calls_to_live[call] -= 1
            if self.calls_to_live[call] == 0:
                self.counts[f"{call}: killed in it"] += 1
                arrival_s = (fate.arrivals_s or (0.01,))[0]
                self._loop.call_outside(self._random.choice((0.0, 0.5, 1.5)) * arrival_s, self._process.kill)
        return fate


class Seat(NamedTuple):
    """A running worker with what can be done to it."""

    worker: Worker
    process: VirtualProcess
    faults: DyingFaults
    task: asyncio.Task[None]


class Report(NamedTuple):
    """A run that kept the promise: how often each fault acted and came of it, and a digest of all that was written."""

    faults: Counter[str]
    digest: str


class Schedule:
    """One run."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.random = random.Random(seed)
        #: Of its own, so that seeds without upgrades are what they were.
        self._versions = random.Random(f"versions {seed}")
        self.plan = Plan.of(self.random, self._versions)
        self.broker = MemoryBroker(marker_delay_s=self._marker_delay_s, first_epoch=self.plan.first_epoch)
        self.faults: Counter[str] = Counter()
        self.seats: dict[str, Seat] = {}
        self.sent: list[tuple[bytes, bytes, int]] = []
        self._started = 0
        self.healed = False

    async def run(self) -> Report:
        for topic in (INPUT, LATER, OUTPUT):
            self.broker.create_topic(topic, PARTITIONS)
        self.broker.create_topic(CHANGELOG, PARTITIONS, compacted=True)
        for index in range(self.plan.workers):
            self._start(f"w{index}", Disk(f"d{index}"))
        await self._disturb()
        await self._stop_all()
        self.faults["inputs"] += len(self.sent)
        self.faults["inputs done under faults"] += sum(
            self._committed(Partition(INPUT, number)) for number in range(PARTITIONS)
        )
        self._check(complete=False)
        await self._drain()
        self._check(complete=True)
        return Report(self.faults, self._digest())

    def _digest(self) -> str:
        """Of every byte that was written, and when: two runs of a seed are the same if this is."""
        digest = hashlib.sha256(repr(self.loop.time()).encode())
        for log in self.broker.logs.values():
            for batch in log.batches:
                digest.update(b"%d %d " % (batch.base_offset, batch.producer_id) + batch.payload)
        return digest.hexdigest()

    def _marker_delay_s(self) -> float:
        return 0.0 if self.healed else self.random.random() * self.plan.marker_delay_s

    def _start(self, name: str, disk: Disk, twin_of: str | None = None) -> None:
        process = self.loop.process(name)
        faults = DyingFaults(self.random, self.plan.rates, self.loop, process)
        if self.healed:
            faults.heal()
        instance_id = (twin_of or name) if self.plan.static else None
        worker = Worker(MemoryCluster(self.broker, faults), disk, instance_id, self._topics(), self)
        self._started += 1
        self.seats[name] = Seat(worker, process, faults, process.spawn(worker.run(), f"{name}.{self._started}"))

    def _topics(self) -> tuple[str, ...]:
        """What the version that is started reads: sometimes a newer one, or the one before again."""
        return (INPUT, LATER) if self.plan.upgrades and self._versions.random() < 0.5 else (INPUT,)

    async def _disturb(self) -> None:
        """Send the inputs while workers are killed, frozen and doubled."""
        events = ["kill"] * self.plan.kills + ["freeze"] * self.plan.freezes + ["twin"] * self.plan.twins
        steps: list[str] = ["send"] * self.plan.inputs + events
        self.random.shuffle(steps)
        for step in steps:
            if step == "send":
                self._send()
                if self.random.random() < 0.4:
                    await asyncio.sleep(self.random.random() * self.random.choice((1, 1, 1, 20)))
            else:
                self.faults[step] += 1
                await getattr(self, f"_{step}")(self.random.choice(sorted(self.seats)))
            self._revive()
        await asyncio.sleep(self.random.random() * 40)

    def _send(self) -> None:
        repeated = self.plan.inbox and self.sent and self.random.random() < 0.1
        name, key, number = (
            self.random.choice(self.sent)
            if repeated
            else (b"e%d" % len(self.sent), b"k%d" % (key := self.random.randrange(6)), key % PARTITIONS)
        )
        self.sent.append((name, key, number))
        self.broker.send(Partition(INPUT, number), key, name)

    async def _kill(self, name: str) -> None:
        """In one of its next calls, or now; it comes back on its disk or on an empty one."""
        if self.random.random() < 0.8:
            self.seats[name].faults.calls_to_live[self.random.choice(_DEADLY)] = self.random.randrange(1, 4)
        else:
            self.seats[name].process.kill()

    async def _freeze(self, name: str) -> None:
        process = self.seats[name].process
        process.freeze()
        self.loop.call_outside(self.random.choice((0.5, 5.0, 15.0, 45.0)) * self.random.random() * 2, process.thaw)

    async def _twin(self, name: str) -> None:
        """A second process under the same name, on a directory of its own."""
        twin = f"{name}t"
        if twin not in self.seats and not name.endswith("t"):
            self._start(twin, Disk(f"twin-of-{self.seats[name].worker.disk.name}"), twin_of=name)

    def _revive(self) -> None:
        """Whoever is dead or has ended is started again after a while, as an orchestrator does."""
        for name, seat in list(self.seats.items()):
            self._collect(seat)
            if (seat.process.dead or seat.task.done()) and self.random.random() < 0.3:
                if name.endswith("t"):
                    del self.seats[name]
                else:
                    disk = seat.worker.disk
                    self._start(name, disk if self.random.random() < 0.7 else Disk(f"{disk.name}'"))

    def _collect(self, seat: Seat) -> None:
        if seat.task.done() and not seat.task.cancelled() and (failure := seat.task.exception()) is not None:
            raise Violation(f"{seat.process.name} ended with a defect") from failure
        self.faults.update(seat.faults.counts)
        seat.faults.counts.clear()

    async def _stop_all(self) -> None:
        """Kill everybody and let every time-out pass, so that nothing is open or on its way any more."""
        for seat in self.seats.values():
            self._collect(seat)
            seat.process.kill()
        await asyncio.sleep(SETTLED_S)
        self.healed = True
        await asyncio.sleep(SETTLED_S)

    async def _drain(self) -> None:
        """Without faults everything must come to its end, on the disks that were left behind."""
        disks = [seat.worker.disk for seat in self.seats.values() if seat.worker.disk.name[:4] != "twin"]
        self.seats.clear()
        for index, disk in enumerate(disks):
            self._start(f"w{index}", disk)
        ends = {Partition(INPUT, number): 0 for number in range(PARTITIONS)}
        for partition in ends:
            ends[partition] = self.broker.logs[partition].high_watermark
        deadline = self.loop.time() + DRAIN_S
        while any(self._committed(partition) != end for partition, end in ends.items() if end):
            await asyncio.sleep(1)
            for seat in self.seats.values():
                self._collect(seat)
            if self.loop.time() > deadline:
                raise Violation(f"stands still: committed {[self._committed(part) for part in ends]} of {ends}")
        await asyncio.sleep(1)

    def _committed(self, partition: Partition) -> int:
        return self.broker.group(GROUP).offsets.committed.get(partition, 0)

    def _check(self, *, complete: bool) -> None:
        """The oracle: fold the inputs below the committed offsets; everything visible must be exactly that."""
        outputs: Counter[bytes] = Counter()
        for number in range(PARTITIONS):
            state: dict[bytes | None, bytes | None] = {}
            committed = self._committed(Partition(INPUT, number))
            for record in self._visible(INPUT, number):
                name, key = record.value, record.key
                assert name is not None
                if record.offset < committed and name not in state:
                    if self.plan.inbox:
                        state[name] = b"seen"
                    count = int(state.get(key) or b"0") + 1
                    state[key] = b"%d" % count
                    outputs.update(b"%s:%d:%d" % (name, leg, count) for leg in range(2))
            fold = {record.key: record.value for record in self._visible(CHANGELOG, number)}
            if fold != state:
                raise Violation(f"changelog {number} is {_difference(fold, state)}")
            if complete:
                self._check_disks(number, state)
        seen = Counter(record.value for number in range(PARTITIONS) for record in self._visible(OUTPUT, number))
        if complete and not outputs:
            raise Violation("nothing was there to check")
        if seen != outputs:
            raise Violation(f"outputs lost {sorted((outputs - seen).items())}, too many {(seen - outputs).items()}")

    def _check_disks(self, number: int, state: Mapping[bytes | None, bytes | None]) -> None:
        """Who owns a partition in the end has its whole state on disk."""
        for name, seat in self.seats.items():
            if Partition(INPUT, number) in seat.worker.positions:
                stored = seat.worker.disk.stored(number)
                if stored != state:
                    raise Violation(f"the disk of {name} for {number} is {_difference(stored, state)}")

    def _visible(self, topic: str, number: int) -> tuple:  # type: ignore[type-arg]
        log = self.broker.logs[Partition(topic, number)]
        if log.last_stable_offset != log.high_watermark:
            raise Violation(f"a transaction hangs in {log.partition}")
        return log.fetch(0, committed_only=True).records


def _difference(found: Mapping, expected: Mapping) -> str:  # type: ignore[type-arg]
    keys = sorted({*found, *expected})
    wrong = {key: (found.get(key), expected.get(key)) for key in keys if found.get(key) != expected.get(key)}
    return f"not what was committed (found, expected): {wrong}"


def simulate(seed: int) -> Report:
    """Run one seed to its end. Raises `Violation`, or whatever broke."""
    return run(lambda loop: Schedule(loop, seed).run(), seed)


def simulate_all(seeds: Iterable[int]) -> Counter[str]:
    """Run them one after the other; how often each fault acted. `Violation` with the seed of the first that fails."""
    acted: Counter[str] = Counter()
    for seed in seeds:
        try:
            acted.update(simulate(seed).faults)
        except Exception as exc:
            raise Violation(f"seed {seed}: {exc}") from exc
    return acted
