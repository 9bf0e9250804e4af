"""The proxy itself: each of its injectors does what it says, on a real broker and seen from both sides."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamapp.embedded import wire

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from proxy import Action, Api, Proxy

pytestmark = pytest.mark.kafka

_API_VERSIONS = 18


@pytest.fixture
def proxy(kafka: Any) -> Iterator[Proxy]:
    with Proxy(kafka.bootstrap) as proxy:
        yield proxy


class Client:
    """A connection that asks FindCoordinator v3, the plainest request there is."""

    def __init__(self, proxy: Proxy) -> None:
        self._socket = socket.create_connection(("127.0.0.1", proxy.port), 20)
        self._asked = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self) -> int:
        self._asked += 1
        key = b"group"
        body = bytes((len(key) + 1,)) + key + b"\x00\x00"
        head = b"\x00\x0a\x00\x03" + self._asked.to_bytes(4, "big") + b"\xff\xff\x00"
        self._socket.sendall(len(head + body).to_bytes(4, "big") + head + body)
        return self._asked

    def answer(self, timeout_s: float = 20.0) -> bytes:
        """The next answer; empty when the connection ended. `TimeoutError` when there is none in time."""
        self._socket.settimeout(timeout_s)
        try:
            size = self._socket.recv(4, socket.MSG_WAITALL)
            return self._socket.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL) if size else b""
        except ConnectionError:
            return b""


def test_addresses_in_answers_become_the_proxys(proxy: Proxy) -> None:
    (address,) = wire.describe_cluster("127.0.0.1", proxy.port).brokers.values()
    assert address == ("127.0.0.1", proxy.port)
    assert wire.describe_cluster(*proxy.target).brokers.popitem()[1] == proxy.target


def test_a_held_request_reaches_the_broker_only_when_it_is_released(proxy: Proxy) -> None:
    rule = proxy.on(Api.FIND_COORDINATOR, Action.HOLD)
    with Client(proxy) as client:
        number = client.ask()
        rule.wait()
        with pytest.raises(TimeoutError):
            client.answer(0.2)
        assert rule.answers == []
        assert rule.release()[:4] == number.to_bytes(4, "big")
        assert client.answer()[:4] == number.to_bytes(4, "big")


def test_a_held_request_arrives_on_its_connection_when_its_sender_is_gone(proxy: Proxy) -> None:
    rule = proxy.on(Api.FIND_COORDINATOR, Action.HOLD)
    with Client(proxy) as client:
        client.ask()
        rule.wait()
    with Client(proxy) as other:  # only the first is held
        other.ask()
        assert other.answer()
    assert rule.release()


@pytest.mark.parametrize(("action", "seen"), [(Action.RESET, 0), (Action.LOSE_ANSWER, 1)])
def test_a_connection_that_is_cut_ends_before_or_behind_the_broker(proxy: Proxy, action: Action, seen: int) -> None:
    rule = proxy.on(Api.FIND_COORDINATOR, action)
    with Client(proxy) as client:
        client.ask()
        assert client.answer() == b""
        assert (rule.hits, len(rule.answers)) == (1, seen)


@pytest.mark.parametrize(("action", "seen"), [(Action.DROP_REQUEST, 0), (Action.DROP_ANSWER, 1)])
def test_a_connection_falls_silent_before_or_behind_the_broker(proxy: Proxy, action: Action, seen: int) -> None:
    rule = proxy.on(Api.FIND_COORDINATOR, action, nth=2)
    with Client(proxy) as client:
        first = client.ask()
        assert client.answer()[:4] == first.to_bytes(4, "big")
        client.ask()
        client.ask()
        with pytest.raises(TimeoutError):
            client.answer(0.3)
        assert (rule.hits, len(rule.answers)) == (1, seen)


def test_a_doubled_request_is_answered_twice_by_the_broker_and_once_by_the_proxy(proxy: Proxy) -> None:
    rule = proxy.on(Api.FIND_COORDINATOR, Action.TWICE)
    with Client(proxy) as client:
        assert client.ask() == 1
        assert client.answer()[:4] == (1).to_bytes(4, "big")
        assert client.ask() == 2
        assert client.answer()[:4] == (2).to_bytes(4, "big")
    assert rule.wait_answer(2)[:4] == (1).to_bytes(4, "big")


def test_a_delayed_request_is_answered_late(proxy: Proxy) -> None:
    proxy.on(Api.FIND_COORDINATOR, Action.DELAY, seconds=0.3)
    with Client(proxy) as client:
        began = time.monotonic()
        client.ask()
        assert client.answer()
        assert time.monotonic() - began >= 0.3


def test_a_request_is_replayed_as_it_was(proxy: Proxy) -> None:
    rule = proxy.on(Api.FIND_COORDINATOR, Action.PASS, containing=b"group")
    with Client(proxy) as client:
        client.ask()
        answer = client.answer()
    replayed = proxy.replay(rule.wait())
    assert proxy.rewritten(Api.FIND_COORDINATOR, replayed) == answer


def test_a_frozen_wire_passes_nothing_until_it_is_thawed(proxy: Proxy) -> None:
    with Client(proxy) as client:
        proxy.freeze()
        client.ask()
        with pytest.raises(TimeoutError):
            client.answer(0.2)
        proxy.thaw()
        assert client.answer()


def test_nothing_is_left_behind(kafka: Any) -> None:
    before = threading.active_count()
    with Proxy(kafka.bootstrap) as proxy, Client(proxy) as client:
        rule = proxy.on(Api.FIND_COORDINATOR, Action.HOLD)
        client.ask()
        rule.wait()
    assert threading.active_count() == before
