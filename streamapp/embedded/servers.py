"""`up`, `down` and `status`: Kafka and PostgreSQL together in one data directory.

D/lock            held while anything runs here     D/kafka/node-N    a broker: data, kafka.log, jvm.log
D/servers.json    what runs: see `record`           D/postgres        data, postgres.log, password
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from streamapp.embedded import disk, jars, postgres, process, wire
from streamapp.embedded import exit_reason as death
from streamapp.embedded import run_file as record
from streamapp.embedded.kafka import HEAP_MIB, Kafka, Node
from streamapp.embedded.ports import HOST
from streamapp.embedded.postgres import Postgres
from streamapp.embedded.process import ServerProcess
from streamapp.embedded.run_file import Lock, Run, Server
from streamapp.errors import ConfigurationError, Unavailable

DATA_DIR = Path(".streamapp/run")

#: What `down` gives everything together before it kills, and what it gives the `up` that watches over it.
STOP_TIMEOUT_S = 20.0
_SUPERVISOR_TIMEOUT_S = STOP_TIMEOUT_S + 15.0

#: Told in a sentence what a person should know.
Note = Callable[[str], None]


class Servers:
    """What one `up` runs. Not started until `start`; a failed start leaves nothing running."""

    def __init__(
        self,
        directory: Path = DATA_DIR,
        *,
        nodes: int = 1,
        port: int | None = None,
        with_postgres: bool = True,
        postgres_port: int | None = None,
        heap_mib: int = HEAP_MIB,
        on_progress: jars.OnProgress | None = None,
        note: Note = lambda text: None,
    ) -> None:
        self.directory = directory.absolute()
        self._note = note
        self._lock = Lock(self.directory)
        self._inherited: list[int] = []  # the lock's descriptor, once it is held
        self.kafka = Kafka(
            self.directory / "kafka",
            nodes=nodes,
            port=port,
            heap_mib=heap_mib,
            keep_open=self._inherited,
            on_progress=on_progress,
        )
        self.postgres: Postgres | None = None
        if with_postgres:
            self.postgres = Postgres(self.directory / "postgres", port=postgres_port, keep_open=self._inherited)

    def start(self) -> None:
        """Start everything and wait until it serves.

        Raises `ConfigurationError` if servers run here already, and what `Kafka.start` and `Postgres.start` raise.
        """
        with disk.refusals(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            self._take_over()
        try:
            self._inherited.append(self._lock.descriptor)
            if self.postgres is not None:
                self.postgres.start(on_spawn=self._record)
            self.kafka.start(on_spawn=self._record)
            self._record(ready=True)
        except BaseException:
            self.stop()
            raise

    def _take_over(self) -> None:
        """Get the lock, after what is left of a broken run was stopped."""
        previous = record.read(self.directory)
        if not self._lock.acquire():
            self._stop_remains(previous)
            if not self._lock.acquire(STOP_TIMEOUT_S):
                raise Unavailable(
                    f"What is left of the last run in {self.directory} does not end: run `streamapp down`."
                )
        elif previous is not None:
            for server in previous.servers:
                self._note(f"the last run ended without `down`: {server.name}: {_cause(server)}")
        record.erase(self.directory)

    def _stop_remains(self, previous: Run | None) -> None:
        """Stop the rest of a run that lost a server. Raises `ConfigurationError` if it is whole, or starting."""
        alive = previous.alive if previous is not None else []
        if previous is None or not alive:
            holders = ", ".join(self._lock.holders()) or "unknown"
            raise ConfigurationError(
                f"Another `up` or `down` is at work in {self.directory} (process {holders}). Nothing was started."
                "\nWait for it, or name another directory: --data-dir DIR"
            )
        if previous.is_whole() or previous.is_supervised():
            running = ", ".join(
                f"{server.name} on {HOST}:{server.port} (process {server.process.pid})" for server in alive
            )
            raise ConfigurationError(
                f"Servers run in {self.directory} already: {running}. Nothing was started."
                "\nUse them, end them with `streamapp down`, or name another directory: --data-dir DIR"
            )
        for server in previous.servers:
            if server not in alive:
                self._note(f"{server.name} had ended: {_cause(server)}; stopping the rest to start anew")
        stop_servers(alive)

    def _record(self, *, ready: bool = False, supervised: bool = True) -> None:
        servers = [_kafka_server(node, node.process) for node in self.kafka.nodes if node.process is not None]
        if self.postgres is not None and self.postgres.process is not None:
            servers.append(_postgres_server(self.postgres, self.postgres.process))
        supervisor = ServerProcess.of(os.getpid()) if supervised else None
        run = Run(self.kafka.cluster_id, tuple(servers), supervisor, ready)
        record.write(self.directory, run)

    def detach(self) -> None:
        """Let the servers go on without this process."""
        self._record(ready=True, supervised=False)
        self._lock.release()

    def watch(self) -> None:
        """Return never; raises `Unavailable` when a server ends by itself. Ctrl-C is the caller's."""
        while True:
            for node in self.kafka.nodes:
                if not node.is_alive():
                    raise death.failure(
                        f"Kafka's node {node.number} ended: {node.cause_of_death()}.", node.last_words()
                    )
            if self.postgres is not None and not self.postgres.is_alive():
                words = process.tail(self.postgres.log, death.LINES)
                raise death.failure(f"PostgreSQL ended: {self.postgres.cause_of_death()}.", words)
            time.sleep(0.2)

    def stop(self) -> None:
        """End what this object started, within its time; a second Ctrl-C kills it at once.

        Does nothing once it is detached, or if it never had the directory to itself.
        """
        if not self._lock.is_held:
            return
        try:
            run = record.read(self.directory)
            if run is not None:
                stop_servers(run.alive)
        except KeyboardInterrupt:
            pass
        finally:
            self.kafka.kill()  # what has not ended by now
            if self.postgres is not None:
                self.postgres.kill()
            record.erase(self.directory)
            self._lock.release()


def _kafka_server(node: Node, running: ServerProcess) -> Server:
    logs = (str(node.log), str(node.directory / "jvm.log"))
    return Server(f"Kafka node {node.number}", node.number, node.port, running, logs)


def _postgres_server(server: Postgres, running: ServerProcess) -> Server:
    return Server("PostgreSQL", 0, server.port, running, (str(server.log),))


def stop_servers(servers: list[Server]) -> None:
    """End them all at once, in good order and within their time; kill those that do not."""
    for server in servers:
        if server.number == 0:  # see `postgres.STOP_SIGNAL`; the other signal, sent below, changes nothing then
            server.process.send(signal.SIGCONT)
            server.process.send(postgres.STOP_SIGNAL)
    process.stop([server.process for server in servers], STOP_TIMEOUT_S)


def _last_words(server: Server, lines: int = 8) -> list[str]:
    return [line for log in server.logs for line in process.tail(Path(log), lines)]


def _cause(server: Server) -> str:
    return death.cause(None, _last_words(server, death.LINES))


def down(directory: Path) -> list[str]:
    """Stop what `up` started in this directory, and nothing else; the names of what was stopped.

    Data stays. Raises `Unavailable` if something is being started here that cannot be told from its record.
    """
    directory = directory.absolute()
    run = record.read(directory)
    stopped: list[str] = []
    if run is not None:
        stopped = [server.name for server in run.alive]
        if run.supervisor is not None and run.supervisor.is_alive():
            run.supervisor.send(signal.SIGTERM)
            run.supervisor.wait(_SUPERVISOR_TIMEOUT_S)
        stop_servers(run.alive)
    if directory.is_dir():
        lock = Lock(directory)
        with disk.refusals(directory):
            if not lock.acquire(2.0):
                raise Unavailable(
                    f"Something in {directory} still runs that its record does not name: process "
                    f"{', '.join(lock.holders()) or 'unknown'}. It was left alone; end it by hand if it is no use."
                )
        record.erase(directory)
        lock.release()
    return stopped


class ServerStatus(msgspec.Struct, frozen=True):
    """One server: `running`, `silent` (alive, but does not answer) or `ended`, then with cause and last words."""

    name: str
    state: str
    port: int
    pid: int
    memory_mib: int | None
    log: str
    cause: str | None = None
    last_words: tuple[str, ...] = ()


class EmbeddedStatus(msgspec.Struct, frozen=True):
    """`running` (everything answers), `starting`, `broken` (something ended or is silent) or `stopped`."""

    state: str
    data_dir: str
    broker: str | None = None
    database_url: str | None = None
    cluster_id: str | None = None
    kafka_version: str | None = None
    servers: tuple[ServerStatus, ...] = ()


def status(directory: Path) -> EmbeddedStatus:
    """What runs in this directory; asks every server, each for at most 2 s."""
    directory = directory.absolute()
    run = record.read(directory)
    if run is None:
        return EmbeddedStatus("stopped", str(directory))
    servers = tuple(_status_of(server) for server in run.servers)
    if run.is_whole() and all(server.state == "running" for server in servers):
        state = "running"
    else:
        state = "starting" if run.is_supervised() and not run.ready else "broken"
    return EmbeddedStatus(
        state,
        str(directory),
        run.bootstrap or None,
        _database_url(directory, run),
        run.cluster_id or None,
        jars.version(),
        servers,
    )


def _status_of(server: Server) -> ServerStatus:
    pid, log = server.process.pid, server.logs[0]
    if not server.process.is_alive():
        return ServerStatus(
            server.name, "ended", server.port, pid, None, log, _cause(server), tuple(_last_words(server))
        )
    state = "running" if _answers(server) else "silent"
    return ServerStatus(server.name, state, server.port, pid, process.memory_mib(server.process), log)


def _answers(server: Server) -> bool:
    if server.number == 0:
        return postgres.accepts_connections(server.port)
    with contextlib.suppress(wire.NodeNotReady):
        return server.number in wire.describe_cluster(HOST, server.port).brokers
    return False


def _database_url(directory: Path, run: Run) -> str | None:
    for server in run.servers:
        if server.number == 0:
            found = Postgres(directory / "postgres", port=server.port)
            found.port = server.port
            with contextlib.suppress(OSError):
                return found.url
    return None
