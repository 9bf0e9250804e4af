"""Settings as arguments of a Kafka client, and a broker that answers in a bounded time or a sentence why not.

Operators' commands use librdkafka (confluent-kafka): its admin client alters single settings of a topic (KIP-339),
which aiokafka 0.14 cannot, and its producer gives up on a record after a time and says so, where aiokafka's
idempotent one retries for ever.
"""

from __future__ import annotations

from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from streamapp.clock import SYSTEM_CLOCK
from streamapp.errors import Unavailable
from streamapp.settings import PREFIX, Settings

#: How long a broker may take to answer before we say that it does not.
REACH_TIMEOUT_S = 8.0

#: One attempt; between two attempts an interrupt is seen.
_ATTEMPT_S = 2.0


class ErrorListener:
    """Keeps the last thing that went wrong on the wire, which librdkafka tells only to a callback."""

    def __init__(self) -> None:
        self.last: str | None = None
        self.fatal: str | None = None

    def __call__(self, error: KafkaError) -> None:
        if error.fatal():
            self.fatal = error.str()
        # "3/3 brokers are down" hides the reason that came just before it.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last = error.str()


class Describable(Protocol):
    """What every client of librdkafka can do."""

    def list_topics(self, topic: str = ..., timeout: float = ...) -> ClusterMetadata: ...

    def poll(self, timeout: float = ...) -> int: ...


def connection_settings(settings: Settings) -> dict[str, str]:
    """Where Kafka is and how to get in, in librdkafka's words; nothing of it is to be printed."""
    password = settings.sasl_password
    named = {
        "bootstrap.servers": settings.broker,
        "security.protocol": settings.security_protocol,
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": password.get_secret_value() if password else None,
        "ssl.ca.location": settings.ssl_cafile,
        "ssl.certificate.location": settings.ssl_certfile,
        "ssl.key.location": settings.ssl_keyfile,
    }
    return {name: str(value) for name, value in named.items() if value is not None}


def client_arguments(settings: Settings, listener: ErrorListener) -> dict[str, Any]:
    """The configuration of any confluent-kafka client: addresses, security, no chatter on standard error."""
    return {**connection_settings(settings), "client.id": settings.id, "log_level": 0, "error_cb": listener}


def admin_client(settings: Settings, listener: ErrorListener) -> AdminClient:
    """An admin client. It connects when it is first asked something."""
    return AdminClient(client_arguments(settings, listener))


def reach(
    client: Describable, settings: Settings, listener: ErrorListener, timeout_s: float = REACH_TIMEOUT_S
) -> ClusterMetadata:
    """The cluster's brokers and topics; `Unavailable` if no broker answers within `timeout_s`. Creates no topic."""
    deadline = SYSTEM_CLOCK.monotonic() + timeout_s
    while (left := deadline - SYSTEM_CLOCK.monotonic()) > 0:
        try:
            return client.list_topics(timeout=min(left, _ATTEMPT_S))
        except KafkaException as exc:
            client.poll(0)
            if exc.args[0].code() not in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
                listener.last = exc.args[0].str()
                break
    raise unavailable(settings, listener, f"within {timeout_s:g} s")


def unavailable(settings: Settings, listener: ErrorListener, when: str) -> Unavailable:
    """No broker answered: the address, the reason if one is known, and what to do."""
    why = f" ({listener.last})" if listener.last else ""
    return Unavailable(
        f"Kafka at {settings.broker} did not answer {when}{why}. "
        f"Start it (`streamapp up` starts one on this machine), or set {PREFIX}BROKER to where it is."
    )
