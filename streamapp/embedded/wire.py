"""The questions that tell whether a broker works, asked in Kafka's own protocol over one socket, and one request.

The embedded servers know no Kafka client, and need none: `DescribeCluster` v0 says who is in the cluster, and
`FindCoordinator` v3 whether groups and transactions are served (asking makes a new cluster create the internal
topics, so that the first real client does not find them missing). `UnregisterBroker` v0 has a controller forget a
broker. Field by field: the protocol guide in Kafka's documentation.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

_FIND_COORDINATOR, _DESCRIBE_CLUSTER, _UNREGISTER_BROKER = 10, 60, 64
_GROUP, _TRANSACTION = 0, 1
_LARGEST_ANSWER = 1 << 20
#: The error of a controller that does not know the broker.
_NOT_REGISTERED = 102


class NodeNotReady(Exception):
    """The broker does not answer yet, or not what is needed."""


class NodeMetadata(NamedTuple):
    """What one broker says of its cluster: the brokers by node id are those that are alive and unfenced."""

    cluster_id: str
    brokers: dict[int, tuple[str, int]]


def describe_cluster(host: str, port: int, timeout_s: float = 2.0) -> NodeMetadata:
    """Ask this broker who is in its cluster. Raises `NodeNotReady`."""
    return decode_cluster(_ask(host, port, _DESCRIBE_CLUSTER, 0, b"\x00\x00", timeout_s))


def serves_coordinators(host: str, port: int, timeout_s: float = 5.0) -> bool:
    """Whether the cluster can name the coordinators of a group and of a transactional id."""
    for kind in (_GROUP, _TRANSACTION):
        answer = _AnswerReader(_ask(host, port, _FIND_COORDINATOR, 3, _string("ready") + bytes((kind, 0)), timeout_s))
        answer.skip(4)  # throttle time
        if answer.int16() != 0:
            return False
    return True


def unregister(host: str, controller_port: int, node: int, timeout_s: float = 10.0) -> None:
    """Have the controller forget the broker `node`; it may have done so before. Raises `NodeNotReady`."""
    body = struct.pack(">i", node) + b"\x00"
    answer = _AnswerReader(_ask(host, controller_port, _UNREGISTER_BROKER, 0, body, timeout_s))
    answer.skip(4)  # throttle time
    error = answer.int16()
    if error not in (0, _NOT_REGISTERED):
        raise NodeNotReady(answer.string() or f"Kafka's error {error}")


def decode_cluster(body: bytes) -> NodeMetadata:
    """The answer to `DescribeCluster` v0, behind its header. Raises `NodeNotReady` for an error code."""
    answer = _AnswerReader(body)
    answer.skip(4)  # throttle time
    error = answer.int16()
    message = answer.string()
    if error:
        raise NodeNotReady(message or f"Kafka's error {error}")
    cluster_id = answer.string() or ""
    answer.skip(4)  # controller
    brokers = {}
    for _ in range(answer.uvarint() - 1):
        node = answer.int32()
        brokers[node] = (answer.string() or "", answer.int32())
        answer.string()  # rack
        answer.skip_tags()
    return NodeMetadata(cluster_id, brokers)


def _ask(host: str, port: int, api_key: int, version: int, body: bytes, timeout_s: float) -> bytes:
    """Send one request of a flexible version on a connection of its own; the answer behind its header."""
    correlation = 1
    client = b"streamapp-up"
    request = struct.pack(">hhih", api_key, version, correlation, len(client)) + client + b"\x00" + body
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _receive(connection, 4))
            if not 5 <= size <= _LARGEST_ANSWER:
                raise NodeNotReady("what answers there is not Kafka")
            answer = _receive(connection, size)
    except OSError as exc:
        raise NodeNotReady(str(exc)) from exc
    if struct.unpack(">i", answer[:4])[0] != correlation:
        raise NodeNotReady("what answers there is not Kafka")
    reader = _AnswerReader(answer)
    reader.skip(4)
    reader.skip_tags()
    return reader.rest()


def _receive(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        chunk = connection.recv(size - len(received))
        if not chunk:
            raise NodeNotReady("the connection was closed")
        received += chunk
    return bytes(received)


def _string(text: str) -> bytes:
    """A compact string; ours are short."""
    encoded = text.encode()
    assert len(encoded) < 127
    return bytes((len(encoded) + 1,)) + encoded


class _AnswerReader:
    """Kafka's types, read one after the other. Raises `NodeNotReady` where the answer is too short."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def _take(self, size: int) -> bytes:
        piece = self._content[self._at : self._at + size]
        if len(piece) != size:
            raise NodeNotReady("the answer is cut short")
        self._at += size
        return piece

    def rest(self) -> bytes:
        return self._content[self._at :]

    def skip(self, size: int) -> None:
        self._take(size)

    def int16(self) -> int:
        return int.from_bytes(self._take(2), "big", signed=True)

    def int32(self) -> int:
        return int.from_bytes(self._take(4), "big", signed=True)

    def uvarint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self._take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def string(self) -> str | None:
        size = self.uvarint()
        return None if size == 0 else self._take(size - 1).decode(errors="replace")

    def skip_tags(self) -> None:
        for _ in range(self.uvarint()):
            self.uvarint()
            self.skip(self.uvarint())
