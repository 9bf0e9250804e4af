"""A Kafka with an authorizer and five listeners: everybody's, with passwords, with TLS, and two that are set up badly.

The first is a super user's, without a password. On the one with passwords nobody may do anything that no ACL allows.
"""

from __future__ import annotations

from pathlib import Path

from streamapp.embedded import ports
from streamapp.embedded.kafka import Kafka, Node
from streamapp.embedded.ports import HOST
from streamapp.embedded.properties import Place

#: A name that no resolver knows (RFC 6761).
NOWHERE = "broker-1.invalid"
#: A key and its own certificate, for localhost.
CERTIFICATE = Path(__file__).parents[1] / "data" / "localhost.pem"
USER, PASSWORD = "worker", "the-workers-password"

_PROPERTIES = """\
listeners=CLIENT://{host}:{port},CONTROLLER://{host}:{controller},GUARDED://{host}:{guarded},\
UNKNOWN://{host}:{unknown},CLOSED://{host}:{closed},TLS://{host}:{tls}
advertised.listeners=CLIENT://{host}:{port},GUARDED://{host}:{guarded},UNKNOWN://{nowhere}:{unknown},\
CLOSED://{host}:{nobody},TLS://{host}:{tls}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_PLAINTEXT,UNKNOWN:PLAINTEXT,\
CLOSED:PLAINTEXT,TLS:SSL
listener.name.tls.ssl.keystore.type=PEM
listener.name.tls.ssl.keystore.location={certificate}
sasl.enabled.mechanisms=PLAIN
listener.name.guarded.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{user}="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


class GuardedKafka(Kafka):
    """See the module."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, port=0, die_with_parent=True)
        self.nodes = [_GuardedNode(self, 1, self.directory / "node-1")]

    @property
    def node(self) -> _GuardedNode:
        node = self.nodes[0]
        assert isinstance(node, _GuardedNode)
        return node

    @property
    def guarded(self) -> str:
        """Asks for a user and a password."""
        return f"{HOST}:{self.node.guarded}"

    @property
    def tls(self) -> str:
        """Speaks TLS, with the certificate in `CERTIFICATE`."""
        return f"{HOST}:{self.node.tls}"

    @property
    def unknown(self) -> str:
        """Advertises a name that nobody can resolve."""
        return f"{HOST}:{self.node.unknown}"

    @property
    def closed(self) -> str:
        """Advertises a port where nobody listens."""
        return f"{HOST}:{self.node.closed}"


class _GuardedNode(Node):
    guarded = unknown = closed = tls = 0

    def configure(self, place: Place, places: list[Place]) -> None:
        super().configure(place, places)
        taken = [place.port, place.controller_port]
        for name in ("guarded", "unknown", "closed", "tls"):
            taken.append(ports.any_free(taken))
            setattr(self, name, taken[-1])
        text = _PROPERTIES.format(
            host=HOST,
            port=place.port,
            controller=place.controller_port,
            guarded=self.guarded,
            unknown=self.unknown,
            closed=self.closed,
            tls=self.tls,
            certificate=CERTIFICATE,
            nobody=1,
            nowhere=NOWHERE,
            user=USER,
            password=PASSWORD,
        )
        with (self.directory / "server.properties").open("a") as properties:
            properties.write(text)
