"""A program of the bench as a process: started with its variables, watched for CPU and memory, ended."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple, Self

import psutil  # type: ignore[import-untyped]

from streamapp.errors import StreamAppError

STOP_BOUND_S = 12.0
_REPOSITORY = Path(__file__).parents[1]


class Usage(NamedTuple):
    """What a process has used so far."""

    cpu_s: float
    peak_mib: float


class Process:
    """A context manager that leaves nothing running. Its output goes to `log`."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMAPP_", "BENCH_"))}
        with log.open("ab") as output:
            # A session of its own: Ctrl-C ends the bench, which then ends the program.
            self._child = subprocess.Popen(
                command,
                env=plain | environment | {"PYTHONPATH": str(_REPOSITORY)},
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._watched = psutil.Process(self._child.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def require_alive(self) -> None:
        """Raise `StreamAppError` with its last words if it has ended."""
        if self._child.poll() is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-15:]
            raise StreamAppError("\n".join([f"it ended with code {self._child.returncode}", *lines]))

    def usage(self) -> Usage:
        """CPU seconds, user and system, of it and what it started; the most memory it has had."""
        cpu_s, peak_kib = 0.0, 0
        for process in [self._watched, *self._watched.children(recursive=True)]:
            try:
                times = process.cpu_times()
                status = Path(f"/proc/{process.pid}/status").read_text()
            except (psutil.NoSuchProcess, OSError):
                continue
            cpu_s += times.user + times.system
            peak_kib += next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
        return Usage(cpu_s, peak_kib / 1024)

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self._child.terminate()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL past the bound."""
        self.ask_to_stop()
        try:
            self._child.wait(STOP_BOUND_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, to all that it started."""
        if self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait(STOP_BOUND_S)


class Crew:
    """Several processes that work as one group. A context manager that leaves none running."""

    def __init__(self, members: list[Process]) -> None:
        self._members = members

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.kill()

    def require_alive(self) -> None:
        """Raise `StreamAppError` if one has ended."""
        for member in self._members:
            member.require_alive()

    def usage(self) -> Usage:
        """The sum of CPU and of peaks."""
        used = [member.usage() for member in self._members]
        return Usage(sum(one.cpu_s for one in used), sum(one.peak_mib for one in used))

    def stop(self) -> None:
        """SIGTERM to all, then each has the bound."""
        for member in self._members:
            member.ask_to_stop()
        for member in self._members:
            member.stop()
