"""A real worker process of one shot, with what it logged and the points it reached."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from signals import terminate

REPOSITORY = Path(__file__).resolve().parents[3]
_COMMAND = (sys.executable, "-c", "from streamapp.cli.main import main; main()")
#: A worker ends within 20 s after SIGTERM (the contract's bound); the rest is for a loaded machine.
STOP_S = 60.0
SESSION_TIMEOUT_S = 3
TRANSACTION_TIMEOUT_S = 2


class Worker:
    """`streamapp worker`; `plan` is its fault plan, `command` another program in its place.

    `settings` are more of the environment's, without their prefix.
    """

    def __init__(
        self,
        bootstrap: str,
        app: str,
        instance: str | None,
        state: Path,
        log: Path,
        *,
        plan: Sequence[dict[str, Any]] = (),
        command: Sequence[str] = _COMMAND,
        partitions: int = 4,
        inbox_retention_s: int | None = None,
        session_timeout_s: float = SESSION_TIMEOUT_S,
        transaction_timeout_s: float = TRANSACTION_TIMEOUT_S,
        **settings: object,
    ) -> None:
        self.instance = instance
        self.state = state / app / (instance or "dynamic")
        self.log = log
        self.hits_file = log.with_suffix(".hits")
        state.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMAPP_")} | {
            "PYTHONPATH": str(REPOSITORY),
            "STREAMAPP_BROKER": bootstrap,
            "STREAMAPP_ID": app,
            "STREAMAPP_DATADIR": str(state),
            "STREAMAPP_SESSION_TIMEOUT": str(session_timeout_s),
            "STREAMAPP_TRANSACTION_TIMEOUT": str(transaction_timeout_s),
            "STREAMAPP_PARTITIONS": str(partitions),
            "STREAMAPP_LOG_FORMAT": "json",
            **{f"STREAMAPP_{name.upper()}": str(value) for name, value in settings.items()},
        }
        if instance:
            environment["STREAMAPP_INSTANCE"] = instance
        if inbox_retention_s is not None:
            environment["STREAMAPP_INBOX_RETENTION"] = str(inbox_retention_s)
        if plan:
            environment |= {
                "FAULT_PLAN_ALLOWED": "1",
                "FAULT_PLAN": json.dumps(list(plan)),
                "FAULT_PLAN_HITS": str(self.hits_file),
            }
        log.with_suffix(".started").touch()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, "worker", "--log-level", "info"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=state,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    @property
    def hits(self) -> list[dict[str, Any]]:
        """The faults that acted, written by the worker before they did."""
        if not self.hits_file.exists():
            return []
        return [json.loads(line) for line in self.hits_file.read_text().splitlines()]

    @property
    def is_frozen(self) -> bool:
        """Whether the kernel says that it is stopped (state T)."""
        try:
            return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    @property
    def generation(self) -> int:
        """The newest generation under which it said that it owns partitions; 0: none yet."""
        return max(self._owned(), default=0)

    def owned_ms(self, since_ms: float, newest: int) -> float:
        """When it first owned partitions since then, in a generation not older than `newest`; infinite if never.

        A static member whose seat still stands rejoins in the generation it missed; what a thawed one says of an
        older generation is no rejoining.
        """
        rejoined = (at for generation, at in self._owned().items() if at > since_ms and generation >= newest)
        return min(rejoined, default=float("inf"))

    def _owned(self) -> dict[int, float]:
        lines = re.findall(r'"generation (\d+): owns.*"timestamp": "([^"]+)"', self.log.read_text(errors="replace"))
        return {int(generation): datetime.fromisoformat(at).timestamp() * 1000 for generation, at in lines}

    def signal(self, number: int) -> None:
        """Nothing happens if it has ended. SIGTERM waits until the worker has its handler."""
        if number == signal.SIGTERM:
            terminate(self._process)
        elif self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, also when frozen; waits until it is gone."""
        self.signal(signal.SIGKILL)
        self._process.wait(10)

    def stop(self, timeout_s: float = STOP_S) -> int | None:
        """SIGTERM; its exit code, or None (and SIGKILL) when it does not end in time."""
        self.signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def tail(self, count: int = 12) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()[-count:]


def wait_until(condition: Any, timeout_s: float, poll_s: float = 0.03) -> bool:
    """Whether `condition()` became true within the time."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(poll_s)
    return True
