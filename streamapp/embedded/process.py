"""A process we started, known again by more than its number.

A pid is given out anew after its process ended, so the time it started is kept beside it: whoever has this pid but
was born at another time is a stranger and is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

_PROC = Path("/proc")
_LAUNCH = Path(__file__).with_name("launch.py")

#: The longest any process is waited for after SIGKILL: the kernel needs a moment to take a large one down.
_KILL_WAIT_S = 10.0


class ServerProcess(msgspec.Struct, frozen=True):
    """One process: its pid, and when it was born (see `birth`)."""

    pid: int
    born: str

    @classmethod
    def of(cls, pid: int) -> ServerProcess:
        """The process that has this pid now. A pid of nobody gives a process that is not alive."""
        return cls(pid, birth(pid) or "never")

    def is_alive(self) -> bool:
        return birth(self.pid) == self.born

    def send(self, number: signal.Signals) -> None:
        """Signal it; nothing happens if it is gone."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within that time."""
        give_up = time.monotonic() + timeout_s
        while self.is_alive():
            if time.monotonic() > give_up:
                return False
            time.sleep(0.02)
        return True

    def kill(self) -> None:
        """End it at once, as a crash does, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.wait(_KILL_WAIT_S)


def birth(pid: int) -> str | None:
    """When the process with this pid was born, in a form to compare; None if it ended, reaped or not."""
    return _birth_in_proc(pid) if _PROC.is_dir() else _birth_elsewhere(pid)


def _birth_in_proc(pid: int) -> str | None:
    """Linux: the clock ticks from boot to its start. Unlike a wall-clock time it never drifts."""
    try:
        # The name, in parentheses, may itself hold spaces and parentheses: fields are counted from behind it.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        state, threads, ticks = fields[0], int(fields[17]), fields[19]
    except (OSError, IndexError):
        return None
    # A zombie with threads left is on its way out but still has its files and locks.
    return None if state in "ZX" and threads <= 1 else f"{boot}:{ticks}"


def _birth_elsewhere(pid: int) -> str | None:
    import psutil  # type: ignore[import-untyped]  # of the extra `embedded`, as in the other places

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def stop(processes: Sequence[ServerProcess], timeout_s: float, number: signal.Signals = signal.SIGTERM) -> None:
    """Ask them all to end, give them that much time together, and kill those that did not."""
    give_up = time.monotonic() + timeout_s
    for process in processes:
        process.send(signal.SIGCONT)  # a paused one cannot hear anything else
        process.send(number)
    for process in processes:
        if not process.wait(max(0.0, give_up - time.monotonic())):
            process.kill()


def command(
    words: Sequence[str | Path], *, user: tuple[int, int] | None = None, die_with_parent: bool = False
) -> list[str]:
    """The command line that runs `words` as that user (uid, gid), tied to us or not (see `launch`)."""
    options = [f"--user={user[0]}:{user[1]}"] if user else []
    options += [f"--parent={os.getpid()}"] if die_with_parent and _PROC.is_dir() else []
    launcher = [sys.executable, "-I", "-S", str(_LAUNCH), *options, "--"] if options else []
    return [*launcher, *map(str, words)]


def start(
    words: Sequence[str | Path],
    *,
    log: Path,
    environment: dict[str, str],
    user: tuple[int, int] | None = None,
    die_with_parent: bool = False,
    keep_open: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, so that Ctrl-C in our terminal does not reach it.

    What it prints goes to `log`, from its beginning. `user` (uid, gid) is whom it becomes; with `die_with_parent` the
    kernel ends it with us, whatever way we end (Linux); the file descriptors `keep_open` it inherits.
    """
    with log.open("wb") as output:
        return subprocess.Popen(
            command(words, user=user, die_with_parent=die_with_parent),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            pass_fds=tuple(keep_open),
            cwd=log.parent,
        )


def tail(path: Path, lines: int = 12, size: int = 32_768) -> list[str]:
    """The last lines of a log, without the frames of stack traces; none if there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip() and not line.startswith("\tat ")][-lines:]


def memory_mib(process: ServerProcess) -> int | None:
    """Its resident memory; None if it is gone."""
    import psutil

    try:
        return int(psutil.Process(process.pid).memory_info().rss) >> 20 if process.is_alive() else None
    except psutil.Error:
        return None


def wait_until_stopped(pid: int, timeout_s: float = 10.0) -> None:
    """Wait until every thread of a process stands (SIGSTOP), where the kernel tells; one that is gone stands, too."""
    threads = Path(f"/proc/{pid}/task")
    give_up = time.monotonic() + timeout_s
    while threads.exists() and not _stands(threads) and time.monotonic() < give_up:
        time.sleep(0.01)


def _stands(threads: Path) -> bool:
    try:
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads.glob("*/stat"))
    except OSError:  # a thread that has just ended
        return False
