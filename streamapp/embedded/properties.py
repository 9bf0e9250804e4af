"""What a broker is told: its properties, its logging, its JVM's flags. Texts from values, no I/O.

Set up for a laptop: few partitions of the internal topics, few threads, small buffers; a transaction whose owner died
ends within a second of its time-out (Kafka looks every ten by default), but not in a node that comes back
(`overrides`); a group's first member does not wait for others. With three nodes every topic, the internal ones too, has
three copies of which two must be in step.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from streamapp.embedded.ports import HOST


class Place(NamedTuple):
    """Where one node listens: for clients and brokers, and for the controllers' quorum."""

    node: int
    port: int
    controller_port: int


#: How often a coordinator looks for transactions that are over their time.
_SWEEP = "transaction.abort.timed.out.transaction.cleanup.interval.ms"


#: Milliseconds. A node that stands still for longer than its session is fenced by its controller. A single one has
#: nobody to hand its partitions to, and what it aborts at that instant becomes visible (KAFKA-20734), so that its
#: session is the longest there is, 24 days; a killed one comes back by another way (`comeback`).
_SESSION, _SESSION_OF_THREE = 2_147_483_647, 6000

_QUICKLY_STARTED = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
#: Of `kafka-server-start.sh` and `kafka-run-class.sh`, whose heap has 1 GiB.
_LONG_LIVED = (
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
)


def copies(nodes: int) -> tuple[int, int]:
    """Replication factor and `min.insync.replicas` of a cluster with so many nodes."""
    return (3, 2) if nodes >= 3 else (1, 1)


def server_properties(place: Place, places: list[Place], log_dir: Path) -> str:
    """The properties file of one node, broker and controller at once (KRaft combined mode)."""
    factor, in_sync = copies(len(places))
    voters = ",".join(f"{other.node}@{HOST}:{other.controller_port}" for other in places)
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": place.node,
        "controller.quorum.voters": voters,
        "listeners": f"CLIENT://{HOST}:{place.port},CONTROLLER://{HOST}:{place.controller_port}",
        "advertised.listeners": f"CLIENT://{HOST}:{place.port}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": _escaped(log_dir),
        "auto.create.topics.enable": "false",
        "num.partitions": 4,
        "default.replication.factor": factor,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": factor,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": factor,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 8,
        "share.coordinator.state.topic.replication.factor": factor,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 1,
        _SWEEP: 1000,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "broker.session.timeout.ms": _SESSION_OF_THREE if len(places) > 1 else _SESSION,
        "broker.heartbeat.interval.ms": 500,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "num.recovery.threads.per.data.dir": 1,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 16 << 20,
        "log.segment.delete.delay.ms": 1000,
    }
    return _text(settings)


def controller_properties(place: Place, log_dir: Path) -> str:
    """The properties file of a single node's controller without its broker."""
    settings: dict[str, object] = {
        "process.roles": "controller",
        "node.id": place.node,
        "controller.quorum.voters": f"{place.node}@{HOST}:{place.controller_port}",
        "listeners": f"CONTROLLER://{HOST}:{place.controller_port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": _escaped(log_dir),
    }
    return _text(settings)


def _text(settings: dict[str, object]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def overrides(*, comes_back: bool) -> list[str]:
    """What a broker's command line adds to its properties.

    Where all three of a cluster were killed, each is fenced some seconds after it comes back, when its old session is
    over. A transaction that it aborts of its own accord at that instant loses its markers, and what was aborted becomes
    visible with the next commit of its producer (KAFKA-20734, seen on 4.3.1 with one node: 6 of 21 starts with a look
    every second, none of 6 with one every ten). So it looks as late as Kafka's own default has it.
    """
    return ["--override", f"{_SWEEP}=10000"] if comes_back else []


def _escaped(path: Path) -> str:
    r"""A path as Java reads it from a properties file, where a backslash starts an escape."""
    return str(path).replace("\\", "\\\\")


def logging_configuration(log: Path) -> str:
    """Log4j's configuration: one file of at most 5 MiB and its predecessor, however long the broker runs.

    Log4j's own shutdown hook is off, for it would stop writing while Kafka is still saying how it ends.
    """
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="error" shutdownHook="disable">
  <Appenders>
    <RollingFile name="file" fileName="{_attribute(log)}" filePattern="{_attribute(log)}.%i">
      <PatternLayout pattern="%d{{ISO8601}} %p %c{{1}}: %m%n"/>
      <SizeBasedTriggeringPolicy size="5 MB"/>
      <DefaultRolloverStrategy max="1"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Logger name="kafka.coordinator" level="warn"/>
    <Logger name="org.apache.kafka.coordinator" level="warn"/>
    <Logger name="org.apache.kafka.storage" level="warn"/>
    <Root level="info"><AppenderRef ref="file"/></Root>
  </Loggers>
</Configuration>
"""


def _attribute(path: Path) -> str:
    """A path inside an XML attribute that Log4j expands: a dollar sign would begin a lookup."""
    text = str(path).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("$", "$$")


def jvm_flags(java: int, heap_mib: int, logging: Path, temporary: Path, *, long_lived: bool = False) -> list[str]:
    """Flags of a JVM that ends itself, saying so, when its heap is full; a small one that starts quickly, usually.

    Only the first compiler: on two cores the second one's work costs more than its code gains in the first half
    million records (broker CPU 3.5 s against 5.5 s for 480,000 of them; three nodes start in 4.6 s instead of 8.9 s).
    A long-lived one has what Kafka's own start script gives it.
    Java 24 and later warn of what Kafka's libraries do; the two flags that end this are unknown to earlier ones.
    """
    return [
        f"-Xmx{heap_mib}m",
        *(_LONG_LIVED if long_lived else _QUICKLY_STARTED),
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Xshare:auto",
        *(("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow") if java >= 24 else ()),
        "-Djava.awt.headless=true",
        f"-Djava.io.tmpdir={temporary}",
        f"-Dlog4j2.configurationFile={logging}",
    ]
