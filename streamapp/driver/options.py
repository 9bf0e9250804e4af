"""What of Faust's `App(...)` options the engine takes over, and what it refuses with a sentence that says why.

An option that would be silently without effect is refused, too: whoever wrote `producer_acks=0` expects something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from mode.utils.times import want_seconds

DEFAULT_PORT = 9092

_SCHEMES = ("kafka", "aiokafka", "streamapp")
_STORES = {"memory": "memory", "rocksdb": "rocksdict", "rocksdict": "rocksdict"}


class Adopted(NamedTuple):
    """The options of an app, sorted: settings of ours, what Faust may have, and what is refused."""

    settings: dict[str, Any]
    options: dict[str, Any]
    problems: list[str]


def adopt(options: Mapping[str, Any], ours: Mapping[str, type]) -> Adopted:
    """Sort the options given to an app. `ours`: the classes that hold the guarantee; subclasses of them are welcome."""
    adopted = Adopted({}, {}, [])
    for name, value in options.items():
        if name in _SETTINGS:
            field, convert = _SETTINGS[name]
            try:
                adopted.settings[field] = convert(value)
            except ValueError as exc:
                adopted.problems.append(f"App({name}={value!r}): {exc}")
        elif name in ours and not (isinstance(value, type) and issubclass(value, ours[name])):
            adopted.problems.append(
                f"App({name}=...): exactly once is made in {ours[name].__module__}.{name}. Subclass that one."
            )
        elif problem := _refusal(name, value):
            adopted.problems.append(problem)
        else:
            adopted.options[name] = value
    return adopted


def _refusal(name: str, value: Any) -> str | None:
    if name in _HARMLESS and value in _HARMLESS[name]:
        return None
    if name in _REFUSED:
        return f"App({name}={value!r}) is not possible. {_REFUSED[name]}"
    if name.startswith(_OF_THE_ENGINE):
        return f"App({name}={value!r}) would have no effect: the engine has its own client. Leave it out."
    return None


def _brokers(value: Any) -> str:
    """Faust's broker URLs as `host:port,...`."""
    texts = [value] if isinstance(value, str) or not isinstance(value, Iterable) else value
    servers = []
    for text in (part for one in texts for part in str(one).replace(";", ",").split(",")):
        scheme, _, server = text.strip().rpartition("://")
        if scheme and scheme not in _SCHEMES:
            raise ValueError(f"only kafka:// brokers are spoken to, not {scheme}://")
        servers.append(server if ":" in server else f"{server}:{DEFAULT_PORT}")
    return ",".join(servers)


def _store(value: Any) -> str:
    store = _STORES.get(str(value).partition(":")[0])
    if store is None:
        raise ValueError("tables are in memory:// or rocksdb://, written with the transaction; there is no other store")
    return store


def _guarantee(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)


#: Faust's option -> (our setting, its conversion).
_SETTINGS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "broker": ("broker", _brokers),
    "broker_commit_interval": ("commit_interval", want_seconds),
    "broker_commit_every": ("commit_events", int),
    "broker_session_timeout": ("session_timeout", want_seconds),
    "consumer_group_instance_id": ("instance", str),
    "datadir": ("datadir", str),
    "producer_compression_type": ("compression", lambda value: value or "none"),
    "processing_guarantee": ("processing_guarantee", _guarantee),
    "store": ("store", _store),
    "topic_partitions": ("partitions", int),
    "topic_replication_factor": ("replication_factor", int),
    "web_host": ("web_host", str),
    "web_port": ("web_port", int),
}

#: Values that ask for what is done anyway.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "consumer_auto_offset_reset": ("earliest",),
    "producer_acks": (-1, "all"),
    "producer_threaded": (False,),
    "reply_create_topic": (False,),
    "stream_publish_on_commit": (False,),
    "table_standby_replicas": (0,),
    "topic_disable_leader": (True,),
}

_SECURITY = "Set STREAMAPP_SECURITY_PROTOCOL and the STREAMAPP_SASL_ and STREAMAPP_SSL_ settings instead."
_REFUSED: dict[str, str] = {
    "agent_supervisor": "An agent that raises is started again at once, and its event is in the dead-letter topic.",
    "broker_consumer": "Give one `broker`: a transaction holds what is read and what is written.",
    "broker_credentials": _SECURITY,
    "broker_producer": "Give one `broker`: a transaction holds what is read and what is written.",
    "consumer_auto_offset_reset": "A group without offsets begins at the earliest record, so that none is skipped. "
    "To begin elsewhere, set the group's offsets with Kafka's kafka-consumer-groups.sh while no worker runs.",
    "producer_partitioner": "A key's partition is Kafka's default, or what its topic says: "
    "app.topic(..., partitioner=...). For single records give `partition=` to send().",
    "producer_threaded": "Every send is part of the transaction. Send from an agent or a timer.",
    "reply_create_topic": "A worker cannot wait for replies. Read the topic with an agent.",
    "ssl_context": _SECURITY,
    "stream_ack_exceptions": "An event whose agent raises goes to the dead-letter topic with its offset.",
    "stream_publish_on_commit": "What an event sends is published with its commit, always. Leave it out.",
    "table_standby_replicas": "A worker with STREAMAPP_INSTANCE restarts on its own disk, any other restores from the "
    "changelog. Leave it out.",
    "topic_disable_leader": "Timers with on_leader=True run at the worker that owns the first partition. Leave it out.",
}
_OF_THE_ENGINE = ("broker_", "consumer_", "producer_", "stream_", "table_", "topic_")
