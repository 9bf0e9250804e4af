"""SIGTERM for a process that is ready for it."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

#: Longer than any of ours takes to import what it needs, on a loaded machine too.
_READY_S = 60.0


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler of its own for this signal; True where the system does not say (no /proc)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return caught is None or bool(int(caught[1], 16) >> (number - 1) & 1)


def terminate(process: subprocess.Popen[Any]) -> None:
    """SIGTERM once the process has a handler for it: without one it would end at once, as by a kill.

    Does nothing if it has ended.
    """
    give_up = time.monotonic() + _READY_S
    while process.poll() is None and not catches(process.pid, signal.SIGTERM):
        assert time.monotonic() < give_up, f"process {process.pid} has no handler for SIGTERM after {_READY_S:g} s"
        time.sleep(0.01)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
