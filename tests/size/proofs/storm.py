"""Workers without INSTANCE, one to three and back every few seconds under load, and nobody minds."""

from __future__ import annotations

import random
import time
from pathlib import Path

from campaign.cluster import Feed
from campaign.transfers import transfers
from campaign.worker import Worker, wait_until
from proofs.finding import Finding
from proofs.ground import Ground, broker, say
from streamapp.audit import audit

STORM_S, CALM_S, STEP_S = 60.0, 12.0, 2.5
PER_SECOND = 250.0
#: Workers that run, one step after the other; every second time one goes by kill -9 instead of a drain.
_STEPS = (1, 2, 3, 2, 1, 3, 1)


def run(directory: Path) -> list[Finding]:
    """About a minute and a half."""
    with broker(directory) as cluster:
        ground = Ground(cluster, directory, "size-storm")
        try:
            return _run(ground)
        finally:
            ground.close()


def _run(ground: Ground) -> list[Finding]:
    seed = random.Random(4)
    inputs = transfers(seed, int(PER_SECOND * (STORM_S + CALM_S)))
    feed = Feed(ground.cluster.bootstrap, inputs, PER_SECOND, 0)
    feed.first(100)
    running: list[Worker] = []
    comings, kills, codes = 0, 0, []
    feed.start()
    until, step = time.monotonic() + STORM_S, 0
    while time.monotonic() < until:
        wanted = _STEPS[step % len(_STEPS)]
        while len(running) < wanted:
            running.append(ground.worker(None, "state", session_timeout_s=6.0, transaction_timeout_s=6.0))
            comings += 1
        while len(running) > wanted:
            going = running.pop(seed.randrange(len(running)))
            if comings % 2:
                going.kill()
                kills += 1
            else:
                codes.append(going.stop())
        say(f"{len(running)} workers, {sum(ground.offsets().values()):,} of {len(inputs):,} consumed")
        step += 1
        time.sleep(STEP_S)
    say("the storm is over")
    before = ground.offsets()
    flows = wait_until(lambda: all(now > before[number] for number, now in ground.offsets().items()), 30)
    feed.join()
    report = audit({"bootstrap.servers": ground.cluster.bootstrap}, group=ground.app, wait_s=60)
    ended = [it.exit_code for it in running if it.exit_code is not None]
    codes += [it.stop() for it in running if it.exit_code is None]
    note = "; ".join(report.reasons) or f"{report.records_read.get('transfer', 0):,} transfers read"
    return [
        Finding("workers that came in the storm", comings, "", 15, more_is_better=True,
                note=f"{kills} of them killed with -9, the others drained, over {STORM_S:.0f} s"),
        Finding("partitions that stand still behind it", 0 if flows else _standing(before, ground.offsets()), "", 0),
        Finding(f"the auditor's verdict is {report.verdict}: not PASS", report.verdict != "PASS", "", 0, note=note),
        Finding("workers that ended by themselves or could not drain",
                len(ended) + sum(code != 0 for code in codes), "", 0),
    ]  # fmt: skip


def _standing(before: dict[int, int], now: dict[int, int]) -> int:
    return sum(now[number] <= before[number] for number in before)
