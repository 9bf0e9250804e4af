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
from collections.abc import Coroutine, Mapping
from datetime import datetime
from types import ModuleType
from typing import Any, TypeVar

from streamapp import failpoints
from streamapp.clock import format_rfc3339
from streamapp.driver.app import EngineApp
from streamapp.eos.partitioner import DEFAULT
from streamapp.eos.positions import positions_topic
from streamapp.errors import StreamAppError
from streamapp.testing import inputs, readings
from streamapp.testing.app_loader import SERVICE, AppLoader
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.clock import EPOCH_S
from streamapp.testing.crash_points import Crashed, CrashPoints
from streamapp.testing.extra_member import Visits
from streamapp.testing.loop import VirtualLoop
from streamapp.testing.readings import CommittedRecord, DeadLetter
from streamapp.testing.worker import Worker
from streamapp.types import Partition

T = TypeVar("T")


class Bench:
    """Runs an app's worker on a broker in memory, and shows what came of it.

    `target` is `MODULE[:NAME]` of an app; `settings` are those of the environment, in lower case.

    `seed` decides in which order things happen that could happen in any. Close it, or use it in a `with`.
    """

    def __init__(self, target: str = SERVICE, *, seed: int = 0, **settings: Any) -> None:
        self.target = target
        self.seed = seed
        self.points = CrashPoints()
        self.broker = MemoryBroker()
        self._loop = VirtualLoop(seed)
        fresh = AppLoader(target, {"instance": "test", "store": "memory", **settings})
        self._worker = Worker(self.broker, self._loop, fresh)
        self._visits = Visits(self.broker, self._loop, self._worker)
        self._closed = False

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(quietly=kind is not None)

    # --- the worker

    @property
    def app(self) -> EngineApp:
        """The app of the worker that runs now. After a crash it is another object."""
        if self._worker.app is None:
            self.settle()
        assert self._worker.app is not None
        return self._worker.app

    @property
    def module(self) -> ModuleType:
        """The target's module as the worker that runs now has imported it."""
        _ = self.app
        assert self._worker.module is not None
        return self._worker.module

    @property
    def starts(self) -> int:
        """How often the worker was started."""
        return self._worker.starts

    @property
    def loses_its_disk(self) -> bool:
        """Whether a crash takes the worker's disk with it."""
        return self._worker.loses_its_disk

    @loses_its_disk.setter
    def loses_its_disk(self, loses: bool) -> None:
        self._worker.loses_its_disk = loses

    def crash_at(self, point: str, nth: int = 1) -> None:
        """Have the worker die at a crash point (`points.POINTS`), the nth time from now on, and be started again.

        As by SIGKILL: nothing of the process runs any more. Its disk stays.
        """
        self.points.crash_at(point, nth)

    def crash(self) -> None:
        """Have the worker die now, wherever it is. It is started again with the next call that lets it run."""
        self._worker.crash()

    def restart(self, *, empty: bool = False) -> None:
        """Crash the worker and start it again; `empty`: on an empty disk, so that its tables are restored."""
        self.crash()
        if empty:
            self._worker.wipe()
        self.settle()

    def stop(self) -> None:
        """SIGTERM: running events finish and are committed, then the worker ends. The next call starts it again."""
        self._run(self._worker.stop())

    def rebalance_at(self, point: str, nth: int = 1) -> None:
        """Have another member join the group when a point is reached, and leave it soon after.

        The worker gives partitions up and gets them back, as when workers come and go.
        """
        self.points.call_at(point, nth, self._visits.begin)

    # --- time

    @property
    def now(self) -> str:
        """The time that a record would be appended at now, RFC 3339."""
        return format_rfc3339(EPOCH_S + self._loop.time() + self.broker.append_ahead_s)

    def advance(self, seconds: float) -> None:
        """Let time pass: timers, crontabs and time-outs run as they would."""
        self._run(self._advance(seconds))

    async def _advance(self, seconds: float) -> None:
        await self._worker.started()
        until = self._loop.time() + seconds
        while self._loop.time() < until:
            self._worker.look()
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
        stamp_ms: int | None = None,
    ) -> None:
        """Append records to a topic, as another program does. Values: a record, whatever JSON has, or bytes.

        `key`: by default the field that the record type names as its `KEY`. `at`: the event time; it goes into the
        field `occurred_at`, and append times follow it, so a test may feed the records of a year in a moment.
        `stamp_ms`: the sender's stamp, for a topic that keeps it (`broker.create_topic(..., append_time=False)`).
        """
        self._run(self._feed(topic, values, key, at, partition, headers, stamp_ms))

    async def _feed(
        self,
        topic: str,
        values: Any,
        key: Any,
        at: Any,
        partition: int | None,
        headers: Any,
        stamp_ms: int | None = None,
    ) -> None:
        await self._worker.started()
        app = self._worker.app
        assert app is not None
        if topic not in self.broker.topics:
            raise ValueError(f"There is no topic {topic}. The app has: {', '.join(sorted(self.broker.topics))}.")
        happened = None if at is None else inputs.seconds(at)
        if happened is not None:
            ahead = happened - self.broker.append_ms() / 1000
            self.broker.append_ahead_s += max(0.0, ahead)
        declared = inputs.record_type(app, topic)
        count, partitioner = self.broker.topics[topic].partition_count, app.partitioners.get(topic, DEFAULT)
        for value in values:
            stamped = value if happened is None else inputs.with_time(value, happened, declared)
            raw_key = inputs.key_of(stamped, declared) if key is None else key.encode() if isinstance(key, str) else key
            number = partition if partition is not None else partitioner.partition_for(raw_key, count, 0)
            listed = tuple(
                (name, text.encode() if isinstance(text, str) else text) for name, text in (headers or {}).items()
            )
            self.broker.send(Partition(topic, number), raw_key, inputs.as_bytes(stamped), stamp_ms, listed)

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
        field = getattr(inputs.record_type(self.app, topic), "KEY", None)
        values = {**readings.plain(like)}
        for number in range(self.broker.topics[topic].partition_count):
            key = self._key_in(topic, number, f"time-{at}")
            self.feed(topic, {**values, **({field: key} if field else {})}, key=key, at=at)

    def _key_in(self, topic: str, number: int, name: str) -> str:
        count, partitioner = self.broker.topics[topic].partition_count, self.app.partitioners.get(topic, DEFAULT)
        keys = (f"{name}-{trial}" for trial in itertools.count())
        return next(key for key in keys if partitioner.partition_of(key.encode(), count) == number)

    def settle(self) -> None:
        """Let the worker run until everything is consumed, handled and committed.

        `NotSettled` when that takes longer than virtual minutes; the error that ended the worker, if one did.
        """
        self._run(self._settled())

    async def _settled(self) -> None:
        await self._worker.started()
        await self._worker.until(lambda: self._visits.over and self._worker.is_settled())

    def records(self, topic: str) -> list[CommittedRecord]:
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
            return {
                _hashable(table.key_of(key, value)): readings.plain(table._load(value)) for key, value in rows.items()
            }
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

    def close(self, *, quietly: bool = False) -> None:
        """End the worker and put everything back; `quietly`: an error of its background is not raised."""
        if self._closed:
            return
        self._closed = True
        try:
            self._loop.bury()
        finally:
            self._loop.close()
            self._worker.close()
        defects = [it for it in self._loop.defects if not isinstance(it.get("exception"), Crashed)]
        if defects and not quietly:
            raise RuntimeError(f"in the background: {defects[0].get('message')}") from defects[0].get("exception")


def _hashable(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key


class AgentBench:
    """One agent of a bench."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench = bench
        self.name = name
        agent: Any = bench.app.agents[name]
        #: The topic it reads; of several the first.
        self.topic: str = agent.channel.topics[0]

    def put(self, *values: Any, **how: Any) -> list[CommittedRecord]:
        """Feed its topic (`Bench.feed`), and return what was sent because of that, dead letters included."""
        bench = self._bench
        own = {table.changelog_topic_name for table in bench.app.tables.values()}
        own.add(positions_topic(bench.app.settings.id))
        before = {(at.topic, at.number): log.high_watermark for at, log in bench.broker.logs.items()}
        bench.feed(self.topic, *values, **how)
        bench.settle()
        topics = bench.broker.topics.keys() - own - {self.topic}
        found = [record for topic in topics for record in readings.records(bench.broker, topic)]
        fresh = [record for record in found if record.offset >= before.get((record.topic, record.partition), 0)]
        return sorted(fresh, key=lambda record: (record.appended_at, record.topic, record.partition, record.offset))
