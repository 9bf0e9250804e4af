"""The worker of a bench: one simulated process after another, on one disk, and whether it has done its work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType

from streamapp.driver.app import EngineApp
from streamapp.engine.engine import Engine
from streamapp.state import MemoryState
from streamapp.testing.app_loader import AppLoader
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.crash_points import Crashed
from streamapp.testing.environment import MemoryEnvironment
from streamapp.testing.groups import Phase
from streamapp.testing.loop import VirtualLoop, VirtualProcess
from streamapp.types import Partition

#: Virtual seconds that a worker has to finish what it was fed.
SETTLED_WITHIN_S = 120.0
LOOK_EVERY_S = 0.02


class NotSettled(AssertionError):
    """The worker did not finish what it was fed; the text says where it stands."""


class Worker:
    """A worker in a virtual process. What is awaited here runs outside of the process, as a test does."""

    def __init__(self, broker: MemoryBroker, loop: VirtualLoop, fresh: AppLoader) -> None:
        #: The app of the process that runs; None until it is imported.
        self.app: EngineApp | None = None
        #: How often a process was started.
        self.starts = 0
        #: Whether a crash takes the disk with it.
        self.loses_its_disk = False
        self._broker = broker
        self._loop = loop
        self._fresh = fresh
        self._state = MemoryState()
        self._process: VirtualProcess | None = None
        self._failure: BaseException | None = None

    @property
    def module(self) -> ModuleType | None:
        """The target's module as the process has imported it."""
        return self._fresh.module

    @property
    def engine(self) -> Engine | None:
        """Its engine; None while it is not connected."""
        return None if self.app is None else self.app.engine

    # --- processes

    def look(self) -> None:
        """Start a process where none runs; raise what ended the last one."""
        if self._failure is not None:
            self.crash()  # a process that has ended does nothing any more, such as keep its seat
            failure, self._failure, self._process = self._failure, None, None
            raise failure
        if self._process is None or self._process.dead:
            self._start()

    def _start(self) -> None:
        self._state.close()
        if self.starts and self.loses_its_disk:
            self._state = MemoryState()
        self.starts += 1
        process = self._process = self._loop.process(f"worker-{self.starts}")
        self.app = None
        process.spawn(self._work(), process.name)

    async def _work(self) -> None:
        try:
            app = self._fresh.load()
            app.environment = MemoryEnvironment(self._broker, app.settings, self._state)
            app.finalize()
            app.in_worker = True
            app.worker_init()
            if app.conf.autodiscover:
                app.discover()
            self.app = app
            await app.start()
            await app.wait_until_stopped()
            self._failure = app.failure
        except Exception as exc:  # noqa: BLE001 - it is the test's
            self._failure = exc

    def crash(self) -> None:
        """Have the process die now, wherever it is."""
        if self._process is not None:
            self._process.kill()

    def wipe(self) -> None:
        """Put an empty disk in the place of the old one. For a worker that is dead."""
        self._state = MemoryState()

    async def stop(self) -> None:
        """SIGTERM: running events finish and are committed, then the process ends."""
        await self.started()
        assert self._process is not None and self.app is not None
        process = self._process
        leaving = process.spawn(self.app.stop(), "stop")
        while not (leaving.done() or process.dead):  # noqa: ASYNC110 - the process may die, which tells nobody
            await asyncio.sleep(LOOK_EVERY_S)
        process.kill()
        if leaving.done() and not isinstance(leaving.exception(), Crashed):
            leaving.result()

    def close(self) -> None:
        """Put back what it has imported, and its disk."""
        self._state.close()
        self._fresh.close()

    # --- how far it is

    async def started(self) -> None:
        """Let it run until it owns partitions."""
        await self.until(lambda: bool(self.engine and self.engine.tasks))

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Let it run until something is so. `NotSettled` after virtual minutes; what ended it, if it ended."""
        give_up = self._loop.time() + SETTLED_WITHIN_S
        self.look()
        while not is_so():
            if self._loop.time() > give_up:
                raise NotSettled(self._standing())
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def is_settled(self) -> bool:
        """Whether it owns every partition of its topics, and all that is in them is consumed, handled and committed."""
        engine = self.engine
        if engine is None or not engine.tasks or engine.dirty or engine.gate.running or not self._is_seated(engine):
            return False
        if engine.after_commit is not None and not engine.after_commit.idle:
            return False
        return not any(partition not in engine.owners or self._left(partition) for partition in self._consumed())

    def _is_seated(self, engine: Engine) -> bool:
        """Whether its group is at rest, and it knows of its last rebalance."""
        assert self.app is not None
        group, membership = self._broker.group(self.app.settings.id), engine.membership
        return group.phase is Phase.STABLE and membership is not None and membership.generation == group.generation

    def _consumed(self) -> list[Partition]:
        """Every partition of the topics it reads, whoever owns it."""
        topics = self.app.reads if self.app is not None else ()
        return [
            Partition(topic, number) for topic in topics for number in range(self._broker.topics[topic].partition_count)
        ]

    def _left(self, partition: Partition) -> bool:
        """Whether there is something in a partition that is not consumed and committed."""
        log = self._broker.logs[partition]
        if log.last_stable_offset < log.high_watermark:
            return True
        assert self.app is not None
        committed = self._broker.group(self.app.settings.id).offsets.committed.get(partition, log.start_offset)
        return bool(log.fetch(committed, committed_only=True, record_limit=1).records)

    def _standing(self) -> str:
        """What it is at, for whoever waits in vain."""
        engine = self.engine
        if engine is None or not engine.tasks:
            return f"The worker of {self._fresh.target} owned no partition after {SETTLED_WITHIN_S:g} virtual seconds."
        left = [str(partition) for partition in self._consumed() if self._left(partition)]
        away = [str(partition) for partition in self._consumed() if partition not in engine.owners]
        running = [
            f"{worker.get_name()} at {unit}"
            for task in engine.tasks
            for unit in task.running
            for worker in unit.workers
        ]
        return (
            f"Not settled after {SETTLED_WITHIN_S:g} virtual seconds. Not consumed: {', '.join(left) or 'nothing'}. "
            f"Running: {', '.join(running) or 'nothing'}. "
            f"Not owned: {', '.join(away) or 'nothing'}. Counted: {dict(engine.counts)}."
        )
