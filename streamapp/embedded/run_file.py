"""What was started in a data directory, on disk: so that `status` and `down` find it, and nothing else.

The lock says whether anything runs: every server inherits its file descriptor, so the kernel frees it when the last
one ended, however it ended. The record says what runs: it may be stale, and a pid in it may be a stranger's by now.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from io import BufferedRandom
from pathlib import Path

import msgspec

from streamapp.embedded import disk
from streamapp.embedded.process import ServerProcess


class Server(msgspec.Struct, frozen=True):
    """One started server. `number` is a Kafka node's id, 0 for PostgreSQL."""

    name: str
    number: int
    port: int
    process: ServerProcess
    logs: tuple[str, ...]


class Run(msgspec.Struct, frozen=True):
    """One `up`: what it started, the process that watches over it (none once it is detached), whether all served."""

    cluster_id: str
    servers: tuple[Server, ...]
    supervisor: ServerProcess | None = None
    ready: bool = False

    @property
    def alive(self) -> list[Server]:
        return [server for server in self.servers if server.process.is_alive()]

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{server.port}" for server in self.servers if server.number)

    def is_whole(self) -> bool:
        """Whether everything was started and none of it ended."""
        return self.ready and len(self.alive) == len(self.servers)

    def is_supervised(self) -> bool:
        return self.supervisor is not None and self.supervisor.is_alive()


def path(directory: Path) -> Path:
    return directory / "servers.json"


def read(directory: Path) -> Run | None:
    """The last run here; None if there was none, it was ended by `down`, or its file is damaged."""
    try:
        return msgspec.json.decode(path(directory).read_bytes(), type=Run)
    except (OSError, msgspec.DecodeError):
        return None


def write(directory: Path, run: Run) -> None:
    disk.write_whole(path(directory), msgspec.json.format(msgspec.json.encode(run)))


def erase(directory: Path) -> None:
    with contextlib.suppress(OSError):
        path(directory).unlink()


class Lock:
    """The data directory's lock, to be held before anything is started in it, and inherited by what is."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._file: BufferedRandom | None = None

    @property
    def is_held(self) -> bool:
        return self._file is not None

    @property
    def descriptor(self) -> int:
        assert self._file is not None, "the lock is not held"
        return self._file.fileno()

    def acquire(self, timeout_s: float = 0.0) -> bool:
        """Whether it is ours, within that time."""
        give_up = time.monotonic() + timeout_s
        file = self._path.open("a+b")
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    file.close()
                    return False
                time.sleep(0.05)
            else:
                self._file = file
                return True

    def release(self) -> None:
        """Let go of our part; servers that inherited it still hold theirs."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def holders(self) -> list[str]:
        """Who has it open, as far as the system tells us."""
        import psutil  # type: ignore[import-untyped]  # of the extra `embedded`

        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(Path(opened.path) == self._path.absolute() for opened in process.open_files()):
                    found.append(f"{process.pid} ({process.name()})")
        return found
