"""Crash points by name: where a fault campaign makes this process die, freeze, fail or wait.

    failpoint("commit.before_end")   at the exact spot in the code; without a plan it does nothing, in about 50 ns

A plan comes from the environment, and only a test harness sets it:

    FAULT_PLAN_ALLOWED=1   without it the other two mean nothing, so that no variable alone can harm a real worker
    FAULT_PLAN             [{"point": "commit.before_end", "nth": 2, "action": "kill"}]
    FAULT_PLAN_HITS        a file the harness owns; each fault is written to it before it acts, which proves that
                           the point was reached

The points are listed in `testing/crash_points.py`; what came of a crash at each is in `docs/crash-report.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from streamapp.arming import ARMED
from streamapp.errors import ConfigurationError

Action = Literal["kill", "stop", "raise", "sleep", "hold", "note"]

_HOLD_POLL_S = 0.005


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens at a point.

    `kill`, `stop`: SIGKILL or SIGSTOP to this process; `after_s` lets it run on for so many seconds first.
    `raise`: the exception `error`, "module:name". `sleep`: `seconds`. `hold`: until the file `until` is there, at
    most `seconds`. `note`: nothing but the line in the file of hits.
    """

    point: str
    action: Action
    #: Acts when the point is reached for the nth time, and `times` times in all; 0: every time from then on.
    nth: int = 1
    times: int = 1
    after_s: float = 0.0
    seconds: float = 60.0
    error: str = "builtins:RuntimeError"
    until: str = ""

    def acts_at(self, hit: int) -> bool:
        """Whether the point's `hit`th time is one of this fault's."""
        return hit >= self.nth and (self.times == 0 or hit < self.nth + self.times)


class FailpointPlan:
    """Faults by point, and how often each point was reached. `signal_self` sends this process a signal."""

    def __init__(
        self, faults: list[Fault], hits: Path, signal_self: Callable[[int], None] = lambda it: os.kill(os.getpid(), it)
    ) -> None:
        self.reached: Counter[str] = Counter()
        self._faults: dict[str, list[Fault]] = {}
        for fault in faults:
            self._faults.setdefault(fault.point, []).append(fault)
        self._hits = hits
        self._signal_self = signal_self

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> FailpointPlan | None:
        """The plan of an environment; None where there is none or it is not allowed."""
        if environment.get("FAULT_PLAN_ALLOWED") != "1" or not environment.get("FAULT_PLAN"):
            return None
        try:
            faults = msgspec.json.decode(environment["FAULT_PLAN"], type=list[Fault])
            return cls(faults, Path(environment["FAULT_PLAN_HITS"]))
        except (msgspec.DecodeError, KeyError) as exc:
            raise ConfigurationError(f"FAULT_PLAN or FAULT_PLAN_HITS is wrong: {exc!r}. Nothing was started.") from exc

    def plans(self, point: str) -> bool:
        """Whether anything may happen at this point."""
        return point in self._faults

    def failpoint(self, point: str) -> None:
        """Count the point and do what is planned there."""
        for fault in self._due(point):
            if fault.action == "sleep":
                time.sleep(fault.seconds)
            else:
                self._act(fault)

    async def pause(self, point: str) -> None:
        """As `failpoint`, at a place where the coroutine may be suspended: `sleep` lets the others run."""
        for fault in self._due(point):
            if fault.action == "sleep":
                await asyncio.sleep(fault.seconds)
            else:
                self._act(fault)

    def _due(self, point: str) -> list[Fault]:
        faults = self._faults.get(point)
        if faults is None:
            return []
        self.reached[point] += 1
        hit = self.reached[point]
        due = [fault for fault in faults if fault.acts_at(hit)]
        for fault in due:
            self._note(fault, hit)
        return due

    def _note(self, fault: Fault, hit: int) -> None:
        line = msgspec.json.encode({"point": fault.point, "hit": hit, "action": fault.action, "process": os.getpid()})
        file = os.open(self._hits, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(file, line + b"\n")
        finally:
            os.close(file)

    def _act(self, fault: Fault) -> None:
        match fault.action:
            case "kill" | "stop":
                number = signal.SIGKILL if fault.action == "kill" else signal.SIGSTOP
                if fault.after_s:
                    timer = threading.Timer(fault.after_s, self._signal_self, (number,))
                    timer.daemon = True
                    timer.start()
                else:
                    self._signal_self(number)
            case "raise":
                module, _, name = fault.error.partition(":")
                raise getattr(importlib.import_module(module), name)(f"failpoint {fault.point}")
            case "hold":
                give_up = time.monotonic() + fault.seconds
                while not Path(fault.until).exists() and time.monotonic() < give_up:
                    time.sleep(_HOLD_POLL_S)


class Points(Protocol):
    """What can be put in place of a plan (`armed`)."""

    def failpoint(self, point: str) -> None:
        """The point is reached."""

    async def pause(self, point: str) -> None:
        """The point is reached, where the coroutine may be suspended."""

    def plans(self, point: str) -> bool:
        """Whether anything may happen at this point."""


_plan: Points | None = FailpointPlan.of(os.environ)

# For a place where even the call of a failpoint would be too much, or is a coroutine's.
ARMED.on = _plan is not None


def failpoint(point: str) -> None:
    """Mark a point."""
    if _plan is not None:
        _plan.failpoint(point)


def planned(point: str) -> bool:
    """Whether a plan names this point, for one that needs preparation to be reachable at all."""
    return _plan is not None and _plan.plans(point)


async def pause(point: str) -> None:
    """A point at which the coroutine may be suspended. Guard it with `ARMED.on`."""
    if _plan is not None:
        await _plan.pause(point)


@contextlib.contextmanager
def armed(points: Points) -> Iterator[None]:
    """Have `points` told of what is reached meanwhile. For the test kit, which simulates the crash."""
    global _plan
    before = _plan, ARMED.on
    _plan, ARMED.on = points, True
    try:
        yield
    finally:
        _plan, ARMED.on = before
