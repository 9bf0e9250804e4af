"""A bench for an app: a real worker of it on the broker in memory, on virtual time.

    with Bench("shop") as app:
        app.feed("order", {"order_id": "1", "customer": "ann", "cents": 250})
        assert app.outputs("customer-total") == [{"cents": 250}]

Driver, engine, inbox and tables are those of production; only Kafka, the disk and the clock are in memory. Everything
is a plain call, which lets the worker run: a test is a plain function and waits for nothing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from types import ModuleType
from typing import Any, TypeVar

import msgspec

from streamapp import failpoints
from streamapp.clock import format_rfc3339, parse_rfc3339
from streamapp.driver.boot import EngineApp
from streamapp.eos.partitioner import Partitioner
from streamapp.errors import StreamAppError
from streamapp.state import MemoryState
from streamapp.testing import readings
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.clock import EPOCH_S
from streamapp.testing.environment import MemoryEnvironment
from streamapp.testing.fresh import SERVICE, Fresh
from streamapp.testing.loop import Process, VirtualLoop
from streamapp.testing.points import Crashed, CrashPoints
from streamapp.testing.readings import DeadLetter, Record
from streamapp.testing.visitor import Visitor
from streamapp.types import Partition

T = TypeVar("T")

#: Virtual seconds that a worker has to finish what it was fed.
SETTLED_WITHIN_S = 120.0
_LOOK_EVERY_S = 0.02
_TIME_FIELD = "occurred_at"


class NotSettled(AssertionError):
    """The worker did not finish what it was fed; the text says where it stands."""


class Bench:
    """See the module. `target` is `MODULE[:NAME]` of an app; `settings` are those of the environment, in lower case.

    `seed` decides in which order things happen that could happen in any. Close it, or use it in a `with`.
    """

    def __init__(self, target: str = SERVICE, *, seed: int = 0, **settings: Any) -> None:
        self.target = target
        self.seed = seed
        self.points = CrashPoints()
        #: Whether a crash takes the worker's disk with it.
        self.loses_its_disk = False
        #: How often the worker was started.
        self.starts = 0
        self.broker = MemoryBroker()
        self._fresh = Fresh(target, {"instance": "test", "store": "memory", **settings})
        self._loop = VirtualLoop(seed)
        self._partition_of = Partitioner()
        self._state = MemoryState()
        self._process: Process | None = None
        self._app: EngineApp | None = None
        self._failure: BaseException | None = None
        self._closed = False
        self._invited = False
        self._visiting: asyncio.Task[None] | None = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(quietly=kind is not None)

    # --- the worker

    @property
    def app(self) -> EngineApp:
        """The app of the worker that runs now. After a crash it is another object."""
        if self._app is None:
            self.settle()
        assert self._app is not None
        return self._app

    @property
    def module(self) -> ModuleType:
        """The target's module as the worker that runs now has imported it."""
        _ = self.app
        assert self._fresh.module is not None
        return self._fresh.module

    def crash_at(self, point: str, nth: int = 1) -> None:
        """Have the worker die at a crash point (`points.POINTS`), the nth time from now on, and be started again.

        As by SIGKILL: nothing of the process runs any more. Its disk stays.
        """
        self.points.crash_at(point, nth)

    def crash(self) -> None:
        """Have the worker die now, wherever it is. It is started again with the next call that lets it run."""
        if self._process is not None:
            self._process.kill()

    def restart(self, *, empty: bool = False) -> None:
        """Crash the worker and start it again; `empty`: on an empty disk, so that its tables are restored."""
        self.crash()
        self._state = MemoryState() if empty else self._state
        self.settle()

    def stop(self) -> None:
        """SIGTERM: running events finish and are committed, then the worker ends. The next call starts it again."""
        self._run(self._stop())

    async def _stop(self) -> None:
        await self._started()
        assert self._process is not None and self._app is not None
        process = self._process
        leaving = process.spawn(self._app.stop(), "stop")
        while not (leaving.done() or process.dead):  # noqa: ASYNC110 - the process may die, which tells nobody
            await asyncio.sleep(_LOOK_EVERY_S)
        process.kill()
        if leaving.done() and not isinstance(leaving.exception(), Crashed):
            leaving.result()

    def rebalance_at(self, point: str, nth: int = 1) -> None:
        """Have another member join the group when a point is reached, and leave it soon after.

        The worker gives partitions up and gets them back, as when workers come and go.
        """
        self.points.call_at(point, nth, self._invite)

    def _invite(self) -> None:
        self._invited = True
        self._loop.call_outside(0.0, self._visit)

    def _visit(self) -> None:
        assert self._app is not None and self._app.engine is not None
        visitor = Visitor(self.broker, self._app.settings.id, [at.topic for at in self._app.engine.owners])
        self._visiting = self._loop.process("visitor").spawn(visitor.visit(), "visitor")

    def _start(self) -> None:
        self._state.close()
        if self.starts and self.loses_its_disk:
            self._state = MemoryState()
        self.starts += 1
        process = self._process = self._loop.process(f"worker-{self.starts}")
        self._app = None
        process.spawn(self._work(), process.name)

    async def _work(self) -> None:
        try:
            app = self._fresh.load()
            app.environment = MemoryEnvironment(self.broker, app.settings, self._state)
            app.finalize()
            app.in_worker = True
            app.worker_init()
            if app.conf.autodiscover:
                app.discover()
            self._app = app
            await app.start()
            await app.wait_until_stopped()
            self._failure = app.failure
        except Exception as exc:  # noqa: BLE001 - it is the test's
            self._failure = exc

    # --- time

    @property
    def now(self) -> str:
        """The time that a record would be appended at now, RFC 3339."""
        return format_rfc3339(EPOCH_S + self._loop.time() + self.broker.append_ahead_s)

    def advance(self, seconds: float) -> None:
        """Let time pass: timers, crontabs and time-outs run as they would."""
        self._run(self._advance(seconds))

    async def _advance(self, seconds: float) -> None:
        await self._started()
        until = self._loop.time() + seconds
        while self._loop.time() < until:
            self._look()
            await asyncio.sleep(min(1.0, until - self._loop.time()))

    # --- in and out

    def feed(
        self,
        topic: str,
        *values: Any,
        key: str | bytes | None = None,
        at: str | float | datetime | None = None,
        partition: int | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Append records to a topic, as another program does. Values: a record, whatever JSON has, or bytes.

        `key`: by default the field that the record type names as its `KEY`. `at`: the event time; it goes into the
        field `occurred_at`, and append times follow it, so a test may feed the records of a year in a moment.
        """
        self._run(self._feed(topic, values, key, at, partition, headers))

    async def _feed(self, topic: str, values: Any, key: Any, at: Any, partition: int | None, headers: Any) -> None:
        await self._started()
        assert self._app is not None
        if topic not in self.broker.topics:
            raise ValueError(f"There is no topic {topic}. The app has: {', '.join(sorted(self.broker.topics))}.")
        happened = None if at is None else _seconds(at)
        if happened is not None:
            ahead = happened - self.broker.append_ms() / 1000
            self.broker.append_ahead_s += max(0.0, ahead)
        record_type = _record_type(self._app, topic)
        count = self.broker.topics[topic].partition_count
        for value in values:
            stamped = value if happened is None else _with_time(value, format_rfc3339(happened), record_type)
            raw_key = _key_of(stamped, record_type) if key is None else key.encode() if isinstance(key, str) else key
            number = partition if partition is not None else self._partition_of(raw_key, count) if raw_key else 0
            listed = tuple(
                (name, text.encode() if isinstance(text, str) else text) for name, text in (headers or {}).items()
            )
            self.broker.send(Partition(topic, number), raw_key, _bytes(stamped), headers=listed)

    def agent(self, name: str) -> AgentBench:
        """An agent by its name, or by the end of it that is its function's."""
        names = [known for known in self.app.agents if known == name or known.endswith(f".{name}")]
        if len(names) != 1:
            raise ValueError(f"There is no one agent {name}. The app has: {', '.join(self.app.agents)}.")
        return AgentBench(self, names[0])

    def advance_event_time(self, topic: str, at: str | float | datetime, like: Any) -> None:
        """Move the watermark of every partition of a topic: feed each a record like this one, of this event time.

        Event time is what records say, so there is no other way; `like` is one that the agent has little to do with.
        The field that is the record type's `KEY` is set to a key of each partition.
        """
        self.settle()
        field = getattr(_record_type(self.app, topic), "KEY", None)
        values = {**readings.plain(like)}
        for number in range(self.broker.topics[topic].partition_count):
            key = self._key_in(topic, number, f"time-{at}")
            self.feed(topic, {**values, **({field: key} if field else {})}, key=key, at=at)

    def _key_in(self, topic: str, number: int, name: str) -> str:
        count = self.broker.topics[topic].partition_count
        keys = (f"{name}-{trial}" for trial in itertools.count())
        return next(key for key in keys if self._partition_of(key.encode(), count) == number)

    def settle(self) -> None:
        """Let the worker run until everything is consumed, handled and committed.

        `NotSettled` when that takes longer than virtual minutes; the error that ended the worker, if one did.
        """
        self._run(self._settled())

    def records(self, topic: str) -> list[Record]:
        """Committed records of a topic, once everything is settled."""
        self.settle()
        return readings.records(self.broker, topic)

    def outputs(self, topic: str) -> list[Any]:
        """Their values: what JSON has, or bytes."""
        return [record.value for record in self.records(topic)]

    def dead_letters(self, topic: str) -> list[DeadLetter]:
        """What was given up of this topic's records, and why."""
        self.settle()
        return readings.dead_letters(self.broker, topic)

    def table(self, name: str) -> dict[Any, Any]:
        """A table as it is committed: what every worker would restore. Values and keys are plain JSON values.

        Of a table with windows: key -> its windows (`WindowValue`), by their end, closed ones first.
        """
        self.settle()
        table: Any = self.app.tables[name]
        rows = readings.fold(self.broker, table.changelog_topic_name)
        if table.windowed is None:
            return {_hashable(table.key_of(key)): readings.plain(table._load(value)) for key, value in rows.items()}
        found: dict[Any, list[Any]] = {}
        for key, window in table.windowed.items_in(readings.unit_of(rows)):
            found.setdefault(_hashable(key), []).append(window._replace(value=readings.plain(window.value)))
        return found

    def on_disk(self, table: str) -> dict[bytes, bytes]:
        """The raw rows of a table on the worker's disk."""
        self.settle()
        engine = self.app.engine
        stores = [task.stores[table] for task in (engine.tasks if engine is not None else ()) if table in task.stores]
        return dict(row for store in stores for row in store.committed.items())

    def count(self, name: str) -> int:
        """One of the running worker's counters, such as `commits`, `duplicates`, `aborts`."""
        self.settle()
        engine = self.app.engine
        return 0 if engine is None else engine.counts.get(name, 0)

    # --- letting it run

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            work.close()
            raise StreamAppError("This bench is closed. Use it inside its `with`, or by the fixture.")
        if asyncio._get_running_loop() is not None:
            work.close()
            raise StreamAppError(
                "A call of a bench lets the worker run, in a loop of its own. Write the test as a plain function: "
                "`def test_...`, not `async def`."
            )
        with failpoints.armed(self.points):
            return self._loop.run_until_complete(work)

    def _look(self) -> None:
        """Start the worker where none runs; raise what ended it."""
        if self._failure is not None:
            failure, self._failure, self._process = self._failure, None, None
            raise failure
        if self._process is None or self._process.dead:
            self._start()

    async def _started(self) -> None:
        await self._wait(lambda: self._app is not None and bool(self._app.engine and self._app.engine.tasks))

    async def _settled(self) -> None:
        await self._started()
        await self._wait(self._is_settled)

    async def _wait(self, is_so: Callable[[], bool]) -> None:
        until = self._loop.time() + SETTLED_WITHIN_S
        self._look()
        while not is_so():
            if self._loop.time() > until:
                raise NotSettled(self._standing())
            await asyncio.sleep(_LOOK_EVERY_S)
            self._look()

    def _is_settled(self) -> bool:
        engine = self._app.engine if self._app is not None else None
        if engine is None or not engine.tasks or engine.dirty or engine.gate.running:
            return False
        if self._invited and (self._visiting is None or not self._visiting.done()):
            return False
        if engine.intents is not None and not engine.intents.idle:
            return False
        return not any(partition not in engine.owners or self._left(partition) for partition in self._consumed())

    def _consumed(self) -> list[Partition]:
        """Every partition of the topics that the worker reads; while another member is seated it does not own all."""
        topics = {} if self._app is None or self._app.engine is None else {at.topic for at in self._app.engine.owners}
        return [
            Partition(topic, number) for topic in topics for number in range(self.broker.topics[topic].partition_count)
        ]

    def _left(self, partition: Partition) -> bool:
        """Whether there is something in a partition that is not consumed and committed."""
        log = self.broker.logs[partition]
        if log.last_stable_offset < log.high_watermark:
            return True
        assert self._app is not None
        committed = self.broker.group(self._app.settings.id).offsets.committed.get(partition, log.start_offset)
        return bool(log.fetch(committed, committed_only=True, record_limit=1).records)

    def _standing(self) -> str:
        """What the worker is at, for whoever waits in vain."""
        engine = self._app.engine if self._app is not None else None
        if engine is None or not engine.tasks:
            return f"The worker of {self.target} owned no partition after {SETTLED_WITHIN_S:g} virtual seconds."
        left = [str(partition) for partition in self._consumed() if self._left(partition)]
        running = [
            f"{worker.get_name()} at {unit}"
            for task in engine.tasks
            for unit in task.running
            for worker in unit.workers
        ]
        return (
            f"Not settled after {SETTLED_WITHIN_S:g} virtual seconds. Not consumed: {', '.join(left) or 'nothing'}. "
            f"Running: {', '.join(running) or 'nothing'}. Counted: {dict(engine.counts)}."
        )

    def close(self, *, quietly: bool = False) -> None:
        """End the worker and put everything back; `quietly`: an error of its background is not raised."""
        if self._closed:
            return
        self._closed = True
        try:
            self._loop.bury()
        finally:
            self._loop.close()
            self._state.close()
            self._fresh.close()
        defects = [it for it in self._loop.defects if not isinstance(it.get("exception"), Crashed)]
        if defects and not quietly:
            raise RuntimeError(f"in the background: {defects[0].get('message')}") from defects[0].get("exception")


class AgentBench:
    """One agent of a bench."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench = bench
        self.name = name
        agent: Any = bench.app.agents[name]
        #: The topic it reads; of several the first.
        self.topic: str = agent.channel.topics[0]

    def put(self, *values: Any, **how: Any) -> list[Record]:
        """Feed its topic (`Bench.feed`), and return what was sent because of that, dead letters included."""
        bench = self._bench
        changelogs = {table.changelog_topic_name for table in bench.app.tables.values()}
        before = {(at.topic, at.number): log.high_watermark for at, log in bench.broker.logs.items()}
        bench.feed(self.topic, *values, **how)
        bench.settle()
        topics = bench.broker.topics.keys() - changelogs - {self.topic}
        found = [record for topic in topics for record in readings.records(bench.broker, topic)]
        fresh = [record for record in found if record.offset >= before.get((record.topic, record.partition), 0)]
        return sorted(fresh, key=lambda record: (record.appended_at, record.topic, record.partition, record.offset))


def _seconds(at: str | float | datetime) -> float:
    if isinstance(at, datetime):
        return at.timestamp()
    return parse_rfc3339(at).timestamp() if isinstance(at, str) else float(at)


def _record_type(app: EngineApp, topic: str) -> Any:
    """The `msgspec.Struct` of a topic's records, where the app declares one."""
    for channel in app.topics:
        if topic in channel.topics:
            return getattr(getattr(channel.schema, "codec", None), "record_type", None)
    return None


def _with_time(value: Any, text: str, record_type: Any) -> Any:
    """The value with its event time, where it has none of its own or its type has the field."""
    if isinstance(value, msgspec.Struct):
        return (
            msgspec.structs.replace(value, **{_TIME_FIELD: text}) if _TIME_FIELD in value.__struct_fields__ else value
        )
    if isinstance(value, dict) and (record_type is None or _TIME_FIELD in record_type.__struct_fields__):
        return {_TIME_FIELD: text, **value}
    return value


def _key_of(value: Any, record_type: Any) -> bytes | None:
    field = getattr(type(value), "KEY", None) or getattr(record_type, "KEY", None)
    if field is None:
        return None
    key = value.get(field) if isinstance(value, dict) else getattr(value, field, None)
    return key.encode() if isinstance(key, str) else None


def _bytes(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)


def _hashable(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key
