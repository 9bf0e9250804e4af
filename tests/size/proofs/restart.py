"""A worker with a million inbox ids: back after kill -9, taken over by another one, and restored from nothing."""

from __future__ import annotations

import re
import statistics
import time
from pathlib import Path

from campaign.worker import Worker, wait_until
from proofs.finding import Finding
from proofs.ground import SESSION_S, SWEEP_S, TRANSACTION_S, Ground, broker, say

#: Each transfer leaves two ids in the inbox: its own and its credit's.
TRANSFERS = 500_000
ROUNDS = 3
PER_SECOND = 200.0
RESTART_S, TAKE_OVER_EXTRA_S, RESTORED_PER_S = 5.0, 3.0, 100_000.0
_FILL_S, _COMMIT_S = 600.0, 120.0


def run(directory: Path) -> list[Finding]:
    """About three minutes."""
    with broker(directory) as cluster:
        ground = Ground(cluster, directory, "size-restart")
        try:
            return _run(ground)
        finally:
            ground.close()


def _run(ground: Ground) -> list[Finding]:
    say(f"feeding {TRANSFERS:,} transfers, which is {2 * TRANSFERS:,} inbox ids")
    ground.send(TRANSFERS)
    worker = ground.worker("one", "warm")
    began = time.monotonic()
    ground.until_consumed(TRANSFERS, _FILL_S)
    ground.until_consumed(2 * TRANSFERS, _FILL_S, topic="balances")
    say(f"consumed in {time.monotonic() - began:.0f} s")
    restarts: list[float] = []
    with ground.trickle(PER_SECOND):
        for _ in range(ROUNDS):
            time.sleep(1.0)
            worker.kill()
            killed = time.monotonic()
            worker = ground.worker("one", "warm")
            restarts.append(_first_commit(ground, killed))
            say(f"restarted: first commit after {restarts[-1]:.2f} s")
        time.sleep(1.0)
        worker.kill()
        killed = time.monotonic()
        heir = ground.worker("other", "empty")
        taken_over_s = _first_commit(ground, killed)
        _everything_flows(ground)
    records, restore_s = _restored(heir)
    say(f"taken over: first commit after {taken_over_s:.2f} s, {records:,} changelog records in {restore_s:.1f} s")
    allowed_s = max(SESSION_S, TRANSACTION_S + SWEEP_S) + TAKE_OVER_EXTRA_S
    return [
        Finding(
            f"first new commit after kill -9, INSTANCE, warm state, {2 * TRANSFERS:,} inbox ids (slowest of {ROUNDS})",
            max(restarts), "s", RESTART_S, note=f"median {statistics.median(restarts):.2f} s",
        ),
        Finding(
            "first new commit when another worker takes over on an empty directory, the restore taken off",
            taken_over_s - restore_s, "s", allowed_s,
            note=f"with the restore {taken_over_s:.2f} s; session {SESSION_S:g}, transaction {TRANSACTION_S:g}, "
            f"sweep {SWEEP_S:g} s",
        ),
        Finding(
            "restore of that worker's tables through the driver", records / restore_s, "records/s", RESTORED_PER_S,
            more_is_better=True, note=f"{records:,} changelog records in {restore_s:.1f} s",
        ),
    ]  # fmt: skip


def _first_commit(ground: Ground, since: float) -> float:
    """Seconds from `since` until something is committed that was not at that time."""

    def progress() -> int:
        return ground.consumed() + ground.consumed("balances")

    before = progress()
    if not wait_until(lambda: progress() > before, _COMMIT_S, 0.01):
        raise TimeoutError(f"no commit within {_COMMIT_S:.0f} s: {ground.workers[-1].tail()}")
    return time.monotonic() - since


def _everything_flows(ground: Ground) -> None:
    before = ground.offsets()
    if not wait_until(lambda: all(now > before[number] for number, now in ground.offsets().items()), 30):
        raise TimeoutError(f"a partition stands still: {before} then, {ground.offsets()} now")


def _restored(worker: Worker) -> tuple[int, float]:
    """What the worker's log says about its restore: records and seconds."""
    found = re.findall(r"changelog offsets with ([\d,]+) records in ([\d.]+) s", worker.log.read_text())
    if not found:
        raise RuntimeError(f"it said nothing about a restore: {worker.tail()}")
    records, seconds = max((int(count.replace(",", "")), float(took)) for count, took in found)
    return records, seconds
