"""Workers without INSTANCE, one to three and back every few seconds under load, and nobody minds."""

from __future__ import annotations

import random
import time
from itertools import cycle
from pathlib import Path

from campaign.cluster import Feed
from campaign.transfers import transfers
from campaign.worker import Worker, wait_until
from proofs.finding import Finding, judged
from proofs.ground import Ground, broker, say
from streamapp.audit import audit

STORM_S, CALM_S, STEP_S = 60.0, 12.0, 2.5
PER_SECOND = 250.0
#: Workers that run, one step after the other; every third that goes goes by kill -9 instead of a drain.
_STEPS = (1, 2, 3, 2, 1, 3, 1)


def run(directory: Path) -> list[Finding]:
    """About a minute and a half."""
    with broker(directory) as cluster:
        ground = Ground(cluster, directory, "size-storm")
        try:
            return _run(ground)
        finally:
            ground.close()


class Storm:
    """The workers that run, and what became of the others."""

    def __init__(self, ground: Ground, seed: random.Random) -> None:
        self._ground, self._seed = ground, seed
        self.running: list[Worker] = []
        self.came = self.went = self.killed = 0
        self.codes: list[int | None] = []

    def step(self, wanted: int) -> None:
        """Have so many workers run."""
        while len(self.running) < wanted:
            self.running.append(self._ground.worker(None, "state", session_timeout_s=6.0, transaction_timeout_s=6.0))
            self.came += 1
        while len(self.running) > wanted:
            going = self.running.pop(self._seed.randrange(len(self.running)))
            self.went += 1
            if self.went % 3 == 0:
                going.kill()
                self.killed += 1
            else:
                self.codes.append(going.stop())

    def end(self) -> int:
        """Drain the rest; how many of all ended by themselves or did not drain."""
        self.codes += [it.exit_code if it.exit_code is not None else it.stop() for it in self.running]
        return sum(code != 0 for code in self.codes)


def _run(ground: Ground) -> list[Finding]:
    seed = random.Random(4)
    inputs = transfers(seed, int(PER_SECOND * (STORM_S + CALM_S)))
    feed = Feed(ground.cluster.bootstrap, inputs, PER_SECOND, 0)
    feed.first(100)
    storm, until = Storm(ground, seed), time.monotonic() + STORM_S
    feed.start()
    for wanted in cycle(_STEPS):
        storm.step(wanted)
        say(f"{wanted} workers, {ground.consumed():,} of {len(inputs):,} consumed")
        time.sleep(STEP_S)
        if time.monotonic() > until:
            break
    say("the storm is over")
    before = ground.offsets()
    flows = wait_until(lambda: not _standing(before, ground.offsets()), 30)
    feed.join()
    report = audit({"bootstrap.servers": ground.cluster.bootstrap}, group=ground.app, wait_s=60)
    return [
        Finding("workers that came in the storm", storm.came, "", 12, more_is_better=True,
                note=f"{storm.killed} were killed with -9, the others drained, over {STORM_S:.0f} s"),
        Finding("partitions that stand still behind it", 0 if flows else _standing(before, ground.offsets()), "", 0),
        judged(report),
        Finding("workers that ended by themselves or could not drain", storm.end(), "", 0),
    ]  # fmt: skip


def _standing(before: dict[int, int], now: dict[int, int]) -> int:
    return sum(now[number] <= before[number] for number in before)
