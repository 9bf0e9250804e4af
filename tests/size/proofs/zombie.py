"""A worker frozen past its time-outs, as they ship, ends or rejoins by itself soon after it is thawed."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from campaign.cluster import Cluster
from campaign.worker import Worker, wait_until
from proofs.finding import Finding, judged
from proofs.ground import SESSION_S, Ground, broker, say
from streamapp.audit import audit

ROUNDS = 3
BY_ITSELF_S = 2.0
PER_SECOND = 200.0
_FROZEN_S, _BOUND_S = SESSION_S + 3.0, 60.0


def run(directory: Path) -> list[Finding]:
    """About two and a half minutes."""
    findings = []
    with broker(directory) as cluster:
        for kind, names in (("with INSTANCE", ("zombie", "heir")), ("without INSTANCE", (None, None))):
            findings += _thaws(cluster, directory / kind.replace(" ", "-"), kind, names)
    return findings


def _thaws(cluster: Cluster, directory: Path, kind: str, names: tuple[str | None, str | None]) -> list[Finding]:
    ground = Ground(cluster, directory, f"size-zombie-{kind.split()[0]}")
    took = []
    try:
        zombie = ground.worker(names[0], "one")
        ground.send(100)
        ground.until_consumed(100, _BOUND_S)
        heir = ground.worker(names[1], "two")
        with ground.trickle(PER_SECOND):
            for _ in range(ROUNDS):
                wait_until(lambda: zombie.generation == heir.generation > 0, _BOUND_S)
                took.append(_thaw(ground, zombie, heir))
                say(f"{kind}: {took[-1]:.2f} s after the thaw it had rejoined or ended ({zombie.exit_code})")
        report = audit({"bootstrap.servers": cluster.bootstrap}, group=ground.app, wait_s=60)
    finally:
        ground.close()
    shown = ", ".join(f"{it:.2f}" for it in took)
    return [
        Finding(f"a thawed zombie {kind} ends or rejoins (slowest of {ROUNDS})", max(took), "s", BY_ITSELF_S,
                note=f"{shown} s; frozen for {_FROZEN_S:g} s"),
        judged(report),
    ]  # fmt: skip


def _thaw(ground: Ground, zombie: Worker, heir: Worker) -> float:
    """Freeze it until the other one works alone, thaw it, and wait: seconds."""
    zombie.signal(signal.SIGSTOP)
    if not wait_until(lambda: zombie.is_frozen, 5):
        raise RuntimeError("it does not freeze")
    time.sleep(_FROZEN_S)
    before = ground.offsets()
    if not wait_until(lambda: all(now > before[number] for number, now in ground.offsets().items()), _BOUND_S):
        raise TimeoutError(f"nobody took over: {heir.tail()}")
    newest, thawed, thawed_ms = heir.generation, time.monotonic(), time.time() * 1000
    zombie.signal(signal.SIGCONT)
    back = wait_until(lambda: zombie.exit_code is not None or zombie.owned_ms(thawed_ms, newest) < float("inf"), 30)
    if not back:
        raise TimeoutError(f"neither gone nor back after 30 s: {zombie.tail()}")
    return time.monotonic() - thawed
