"""How the only node of a cluster comes back after a kill: its controller runs alone first, and forgets the broker.

The broker that was killed is still registered, as the leader of every partition, until its session is over. That has
two costs, and both end where the controller strikes it out of the list before the next broker is there:

- The next broker is refused until then (DUPLICATE_BROKER_REGISTRATION), and no pause may end a session here.
- It believes what it reads, takes its partitions for led, and begins to end transactions whose partitions lose their
  leader a moment later. Kafka takes these for deleted and writes them no marker (KAFKA-20734): what was aborted can
  become visible, and what was committed can be taken back.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from streamapp.embedded import exit_reason as death
from streamapp.embedded import process, wire
from streamapp.embedded.ports import HOST
from streamapp.embedded.process import ServerProcess
from streamapp.embedded.properties import Place

_STOP_TIMEOUT_S = 20.0


def was_killed(data: Path, started: Path) -> bool:
    """Whether the broker that was started last on this log directory did not end in good order.

    `started` is a file that is touched at each start: one that is younger than the broker's own sign of a good end is
    of a broker that was killed before it took the sign away.
    """
    if not (data / "__cluster_metadata-0").exists():
        return False  # none ever ran
    try:
        ended_ns = (data / ".kafka_cleanshutdown").stat().st_mtime_ns
    except FileNotFoundError:
        return True
    try:
        return ended_ns < started.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def forget_broker(
    place: Place,
    start: Callable[[], subprocess.Popen[bytes]],
    last_words: Callable[[], Sequence[str]],
    timeout_s: float,
) -> None:
    """Run the controller that `start` starts until it has forgotten the broker of its node; then end it.

    Raises `Unavailable` or `StoreError`, with the end of its log, when it dies or the time is over.
    """
    give_up = time.monotonic() + timeout_s
    child = start()
    try:
        while True:
            try:
                return wire.unregister(HOST, place.controller_port, place.node)
            except wire.NodeNotReady as exc:
                problem = str(exc)
            if (code := child.poll()) is not None:
                words = last_words()
                raise death.failure(f"Kafka's controller {place.node} ended: {death.cause(code, words)}.", words)
            if time.monotonic() > give_up:
                raise death.failure(
                    f"Kafka's controller {place.node} did not forget a broker that was killed within {timeout_s:.0f} s "
                    f"({problem}).",
                    last_words(),
                )
            time.sleep(0.05)
    finally:
        process.stop([ServerProcess.of(child.pid)], _STOP_TIMEOUT_S)
        child.wait(_STOP_TIMEOUT_S)
