"""One shot: work under load, a fault at a point, one way to go on, and the verdict."""

from __future__ import annotations

import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaign import compare, segments
from campaign.catalogue import Point, Way
from campaign.cluster import INPUTS, Cluster, Feed
from campaign.transfers import Input, transfers
from campaign.worker import SESSION_TIMEOUT_S, Worker, wait_until
from streamapp.audit import Rules, audit

#: Input of a shot, how much of it lies there before the first worker and comes behind the fault, and the rate.
TRANSFERS, BEFOREHAND, BEHIND, PER_SECOND = 500, 90, 120, 250.0
#: Bounds of waiting, on a machine that is busy with much else; the report has what it took.
HIT_S = 60.0
FIRST_COMMIT_S = 60.0
CONSUMED_S = 60.0
SETTLED_S = 60.0
#: Within this a thawed zombie ends or rejoins by itself, where a shot has the machine to itself (`make crash`).
ZOMBIE_S = 2.0

VICTIM, OTHER = "victim", "other"


@dataclass
class Result:
    """What a shot showed. `problems` empty: it passed."""

    point: str
    way: str
    seed: int
    #: Its workers have an INSTANCE.
    named: bool = True
    hits: int = 0
    audit: str = "-"
    problems: list[str] = field(default_factory=list)
    #: From the fault to the first commit after it.
    commit_s: float | None = None
    #: Of a zombie: from its thaw until it had ended or rejoined, and which.
    zombie_s: float | None = None
    zombie: str = ""
    seconds: float = 0.0
    directory: str = ""

    @property
    def passed(self) -> bool:
        return not self.problems

    @property
    def again(self) -> str:
        """The command that repeats this shot."""
        return f"make crash SEED={self.seed} POINT={self.point} WAY={self.way}{'' if self.named else ' DYNAMIC=1'}"


class Shot:
    """Run it once. Leaves nothing running; its files stay when it fails.

    Of transfers; a shot of other work says what its workers read (`reads`), what is fed and how it is judged.
    """

    #: Topics whose committed offsets are the progress; the first one is fed.
    reads: tuple[str, ...] = INPUTS

    def __init__(
        self, cluster: Cluster, logs: Path, directory: Path, point: Point, way: Way, seed: int,
        *, command: tuple[str, ...] | None = None, keep: bool = False, named: bool = True,
        zombie_within_s: float = SETTLED_S,
    ) -> None:  # fmt: skip
        self._cluster, self._logs, self._point, self._way = cluster, logs, point, way
        self._random = random.Random(f"{seed}-{point.name}-{way}")
        self._app = f"shot-{point.name}-{way}-{seed}".lower()
        self._directory = directory / self._app
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        self._workers: list[Worker] = []
        self._keep, self._named, self._zombie_within_s = keep, named, zombie_within_s
        self._options: dict[str, Any] = {"command": command} if command else {}
        self.result = Result(point.name, str(way), seed, named, directory=str(self._directory))

    def run(self) -> Result:
        began = time.monotonic()
        try:
            self._run()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the shot failed by it
            self._problem(f"{type(exc).__name__}: {exc}")
        finally:
            for worker in self._workers:
                worker.kill()
            self.result.seconds = time.monotonic() - began
        if self.result.passed and not self._keep:
            shutil.rmtree(self._directory, ignore_errors=True)
        return self.result

    def _problem(self, text: str) -> None:
        self.result.problems.append(text)

    def _start(self, instance: str, state: str, plan: list[dict[str, Any]] | None = None) -> Worker:
        log = self._directory / f"{len(self._workers)}-{instance}.log"
        worker = Worker(
            self._cluster.bootstrap, self._app, instance if self._named else None, self._directory / state, log,
            plan=plan or (), partitions=self._cluster.partitions,
            inbox_retention_s=self._point.inbox_retention_s, **self._options,
        )  # fmt: skip
        self._workers.append(worker)
        return worker

    def _run(self) -> None:
        point, way = self._point, self._way
        self._cluster.make_topics(self._app, *(name for name in self.reads if name not in INPUTS))
        inputs = self._inputs(self._random)
        feed = Feed(self._cluster.bootstrap, inputs, PER_SECOND, BEHIND, self.reads[0])
        feed.first(BEFOREHAND)
        state = "state-0"
        if point.after_another:
            self._history(feed)
            state = "state-1" if point.empties_first else state
        victim = self._start(VICTIM, state, point.plan(way, self._random))
        stopped = self._provoke(victim, feed)
        feed.go_on()
        if stopped:
            owners = self._go_on(victim)
            feed.join()
            self._judge(owners, victim, inputs)
        self.result.hits = len([hit for hit in victim.hits if hit["action"] in ("kill", "stop")])
        if not self.result.hits:
            self._problem("the point was never reached")

    def _inputs(self, seed: random.Random) -> list[Input]:
        return transfers(seed, TRANSFERS, repeats=self._point.inbox_retention_s is None)

    # --- until the fault

    def _history(self, feed: Feed) -> None:
        """An earlier worker of the same name does some work and is killed in the middle of a transaction."""
        plan = [{"point": "commit.before_end", "action": "kill", "nth": 7}]
        earlier = self._start(VICTIM, "state-0", plan)
        wait_until(lambda: self._progress() > 0, HIT_S)
        feed.start()
        if not wait_until(lambda: earlier.exit_code is not None, HIT_S):
            raise TimeoutError("the earlier worker did not come to its seventh commit")

    def _provoke(self, victim: Worker, feed: Feed) -> bool:
        """Whatever brings the worker to its point, under load. Whether it stopped there."""
        point, before = self._point, self._progress()

        def stopped() -> bool:
            return victim.exit_code is not None or victim.is_frozen

        wait_until(lambda: self._progress() > before or stopped(), HIT_S)
        feed.start()
        if point.narrows:
            self._cluster.configure(point.narrows, max_message_bytes=600)
        if point.needs_rebalance:
            self._start(OTHER, "state-other")
        if point.needs_sigterm:
            victim.signal(signal.SIGTERM)
        if not wait_until(stopped, HIT_S):
            said = "; ".join(f"{worker.log.name}: {worker.tail(2)}" for worker in self._workers)
            self._problem(f"the worker did not stop at {point.name} within {HIT_S:.0f} s: {said}")
            return False
        if victim.exit_code not in (None, -signal.SIGKILL):
            self._problem(f"the worker ended by itself with {victim.exit_code}: {victim.tail(3)}")
            return False
        return True

    def _progress(self) -> int:
        return sum(self._cluster.committed(self._app, self.reads).values())

    # --- after it

    def _go_on(self, victim: Worker) -> list[Worker]:
        """Heal in the shot's way; the workers that run then, the owners of the end first."""
        began, before = time.monotonic(), self._progress()
        companions = [worker for worker in self._workers if worker is not victim and worker.exit_code is None]
        way = self._way
        if way in (Way.RESTART, Way.EMPTY):
            heir = self._start(VICTIM, "state-new" if way is Way.EMPTY else victim.state.parents[1].name)
        else:
            heir = companions[0] if companions else self._start(OTHER, "state-other")
        if not wait_until(lambda: self._progress() > before, FIRST_COMMIT_S, 0.05):
            self._problem(f"no commit within {FIRST_COMMIT_S:.0f} s: {heir.tail(3)}")
        self.result.commit_s = time.monotonic() - began
        owners = [heir, *(worker for worker in companions if worker is not heir)]
        if way is Way.ZOMBIE:
            time.sleep(max(0.0, SESSION_TIMEOUT_S + 0.5 - (time.monotonic() - began)))
            self._thaw(victim)
            owners.append(victim)
        return owners

    def _thaw(self, victim: Worker) -> None:
        own = {it.producer_id for it in segments.markers(self._logs)} - self._ids_of(OTHER)
        newest = max(worker.generation for worker in self._workers if worker is not victim)
        thawed, thawed_ms = time.monotonic(), time.time() * 1000
        victim.signal(signal.SIGCONT)
        settled = wait_until(
            lambda: victim.exit_code is not None or victim.owned_ms(thawed_ms, newest) < float("inf"), SETTLED_S
        )
        self.result.zombie_s = time.monotonic() - thawed
        self.result.zombie = "rejoined" if victim.exit_code is None else f"ended with {victim.exit_code}"
        if not settled or self.result.zombie_s > self._zombie_within_s:
            self._problem(f"the zombie was neither gone nor back after {self.result.zombie_s:.1f} s")
        rejoined_ms = victim.owned_ms(thawed_ms, newest)
        late = [
            it for it in segments.markers(self._logs)
            if it.producer_id in own and it.kind == "commit" and thawed_ms < it.time_ms < rejoined_ms
        ]  # fmt: skip
        if late:
            self._problem(f"the zombie committed: {late[:3]}")

    def _ids_of(self, instance: str) -> set[int]:
        """Producer ids whose first batch came after the heir's start: not the victim's."""
        heir = next(worker for worker in self._workers if worker.log.stem.endswith(instance))
        started_ms = heir.log.with_suffix(".started").stat().st_mtime * 1000
        first: dict[int, int] = {}
        for it in segments.markers(self._logs):
            first[it.producer_id] = min(it.time_ms, first.get(it.producer_id, it.time_ms))
        return {producer for producer, time_ms in first.items() if time_ms >= started_ms}

    # --- the verdict

    def _judge(self, owners: list[Worker], victim: Worker, inputs: Any) -> None:
        report = audit(
            {"bootstrap.servers": self._cluster.bootstrap},
            group=self._app,
            wait_s=CONSUMED_S,
            rules=Rules(inbox_retention_ms=1000 * (self._point.inbox_retention_s or 7 * 86_400)),
        )
        self.result.audit = str(report.verdict)
        if report.verdict != "PASS":
            self._problem(f"audit {report.verdict}: {'; '.join(report.reasons[:3])}")
            stories = [line for kept in report.findings.stories.values() for story in kept[:1] for line in story.lines]
            self.result.problems += stories[:8]
        for worker in owners:
            ended_alone = worker.exit_code is not None
            code = worker.stop()
            if code != 0 and not (worker is victim and ended_alone):
                self._problem(f"{worker.log.name} ended with {code}: {worker.tail(2)}")
        # A store that was killed in the middle of a restore holds more than its checkpoint says; all others are exact.
        last = list(dict.fromkeys(worker.state for worker in owners))
        others = [
            worker.state
            for worker in self._workers
            if worker.state not in last and self._point.name != "restore.half_done"
        ]
        stores = [*last, *dict.fromkeys(others)]
        self.result.problems += compare.problems(
            self._cluster, self._app, inputs, stores, len(last), keeps_marks=self._point.inbox_retention_s is None
        )
