"""A wire to one broker that knows Kafka's frames: it holds, drops, repeats, delays or cuts the n-th request of a kind.

    with Proxy(kafka.bootstrap) as proxy:
        late = proxy.on(Api.END_TXN, Action.HOLD)     # the next EndTxn does not reach the broker ...
        ...                                           # ... connect to proxy.bootstrap, do something
        late.wait()
        late.release()                                # ... until now: it arrives on its old connection

Synchronous, on threads of its own, so that a test may use it from a coroutine, about a worker process, or both. The
broker's address in what it answers (Metadata, FindCoordinator, DescribeCluster) becomes the proxy's: host and port
are written alike in every version, a host of the same length and four bytes. A connection stays what TCP makes of it:
frames keep their order, so what comes behind a held or dropped one waits or is lost with it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum, IntEnum, auto
from typing import Any, NamedTuple

#: Longer than anything here takes, on a loaded machine too.
BOUND_S = 60.0


class Api(IntEnum):
    """Kafka's numbers of the requests that tests interfere with."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    SYNC_GROUP = 14
    INIT_PRODUCER_ID = 22
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_CLUSTER = 60


_NAMES_BROKERS = frozenset({Api.METADATA, Api.FIND_COORDINATOR, Api.DESCRIBE_CLUSTER})


class Action(Enum):
    """What happens to a request."""

    PASS = auto()  #: nothing; it is kept, and may be sent again with `Proxy.replay`
    HOLD = auto()  #: it reaches the broker when it is released, whether its sender still waits or not
    DELAY = auto()  #: it reaches the broker after `seconds`
    TWICE = auto()  #: it reaches the broker twice; the second answer is kept back
    RESET = auto()  #: the connection is cut, the broker never sees it
    LOSE_ANSWER = auto()  #: the broker carries it out; the connection is cut in place of the answer
    DROP_REQUEST = auto()  #: the broker never sees it, and the connection is silent from here on
    DROP_ANSWER = auto()  #: the broker carries it out, and no answer comes on this connection any more


class Frame(NamedTuple):
    """A request as it was sent, without its length."""

    api: int
    version: int
    correlation_id: int
    content: bytes


class Rule:
    """One kind of request and what happens to it, from the `nth` on, `times` times. Made by `Proxy.on`."""

    def __init__(self, api: Api, action: Action, nth: int, times: int, seconds: float, containing: bytes) -> None:
        self.api = api
        self.action = action
        self.seconds = seconds
        #: The requests it acted on, and what the broker answered to them.
        self.frames: list[Frame] = []
        self.answers: list[bytes] = []
        self._nth = nth
        self._times = times
        self._containing = containing
        self._seen = 0
        self._released = threading.Event()
        self._changed = threading.Condition()

    def takes(self, frame: Frame) -> bool:
        """Whether the rule acts on this request; counts it if it is of the rule's kind."""
        if frame.api != self.api or self._containing not in frame.content:
            return False
        with self._changed:
            self._seen += 1
            if not self._nth <= self._seen < self._nth + self._times:
                return False
            self.frames.append(frame)
            self._changed.notify_all()
        return True

    def answered(self, answer: bytes) -> None:
        with self._changed:
            self.answers.append(answer)
            self._changed.notify_all()

    @property
    def hits(self) -> int:
        return len(self.frames)

    def wait(self, hits: int = 1) -> Frame:
        """Wait until it has acted so often; the last of these requests."""
        self._wait(lambda: len(self.frames) >= hits, f"{self.api.name} did not come {hits} times")
        return self.frames[hits - 1]

    def wait_answer(self, count: int = 1) -> bytes:
        """Wait until the broker has answered so many of them; the last of these answers."""
        self._wait(lambda: len(self.answers) >= count, f"{self.api.name} was not answered {count} times")
        return self.answers[count - 1]

    def release(self) -> bytes:
        """Let what was held go on to the broker, and wait for its answer."""
        before = len(self.answers)
        self._released.set()
        return self.wait_answer(before + 1)

    def let_go(self) -> None:
        """Let what was held go on, and do not wait."""
        self._released.set()

    def hold(self) -> None:
        """Wait until it is released (called by the connection's thread)."""
        self._released.wait()

    def _wait(self, condition: Callable[[], bool], problem: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, BOUND_S), problem


class Proxy:
    """See the module. A context manager; everything it opened is closed at its end."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.rsplit(":", 1)
        self.target = (host, int(port))
        self._socket = socket.create_server((host, 0))
        self.port: int = self._socket.getsockname()[1]
        self.bootstrap = f"{host}:{self.port}"
        self._real = host.encode() + int(port).to_bytes(4, "big")
        self._mine = host.encode() + self.port.to_bytes(4, "big")
        self._rules: list[Rule] = []
        self._closed = False
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = [self._socket]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Proxy:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._flowing.set()
        for each in self._sockets:
            _cut(each)
        for rule in self._rules:
            rule.let_go()
        for thread in self._threads:
            thread.join(5)

    def on(
        self,
        api: Api,
        action: Action,
        *,
        nth: int = 1,
        times: int = 1,
        seconds: float = 0.0,
        containing: bytes = b"",
    ) -> Rule:
        """From now on: act on the `nth` request of this kind that contains these bytes, and on so many in all."""
        rule = Rule(api, action, nth, times, seconds, containing)
        self._rules = [*self._rules, rule]
        return rule

    def freeze(self) -> None:
        """From now on nothing passes, in either direction; the connections stay open."""
        self._flowing.clear()

    def thaw(self) -> None:
        """What was kept back goes on."""
        self._flowing.set()

    def replay(self, frame: Frame) -> bytes:
        """Send a request once more, on a connection of its own, and return the broker's answer."""
        with socket.create_connection(self.target, BOUND_S) as far:
            _send(far, frame.content)
            answer = _receive(far)
        assert answer is not None, "the broker closed the connection on a repeated request"
        return answer

    # --- connections

    def _spawn(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target, timeout=5)
            except OSError:  # no broker: neither is there a proxy
                near.close()
                continue
            far.settimeout(None)
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [near, far]
            connection = _Connection(self, near, far)
            self._spawn(connection.up)
            self._spawn(connection.down)

    def rule_for(self, frame: Frame) -> Rule | None:
        """The first rule that acts on a request; every rule counts it."""
        acting = [rule for rule in self._rules if rule.takes(frame)]
        return acting[0] if acting else None

    def passes(self) -> bool:
        """Wait while the wire is frozen; False once it is closed, and what was kept back is lost."""
        self._flowing.wait()
        return not self._closed

    def rewritten(self, api: int, answer: bytes) -> bytes:
        """An answer with the proxy's address in place of the broker's."""
        return answer.replace(self._real, self._mine) if api in _NAMES_BROKERS else answer


class _Sent(NamedTuple):
    """A request on its way: Kafka answers a connection's requests in their order."""

    api: int
    rule: Rule | None
    #: The answer is that to the second of two, and its sender knows only of one.
    second: bool = False


class _Connection:
    """One client's connection and the one to the broker that belongs to it, a thread each way."""

    def __init__(self, proxy: Proxy, near: socket.socket, far: socket.socket) -> None:
        self._proxy = proxy
        self._near = near
        self._far = far
        self._sent: deque[_Sent] = deque()

    def up(self) -> None:
        with contextlib.suppress(OSError):
            while (content := _receive(self._near)) is not None and self._proxy.passes():
                if not self._forward(Frame(*struct.unpack_from(">hhi", content), content)):
                    return
        # The sender is gone; whatever is still to be answered may be, so only this direction ends.
        with contextlib.suppress(OSError):
            self._far.shutdown(socket.SHUT_WR)

    def _forward(self, frame: Frame) -> bool:
        """Send one request on as its rule says. False: nothing more goes up on this connection."""
        rule = self._proxy.rule_for(frame)
        match rule.action if rule is not None else Action.PASS:
            case Action.RESET:
                self._cut()
                return False
            case Action.DROP_REQUEST:
                return False
            case Action.DELAY if rule is not None:
                time.sleep(rule.seconds)
            case Action.HOLD if rule is not None:
                rule.hold()
        self._sent.append(_Sent(frame.api, rule))
        _send(self._far, frame.content)
        if rule is not None and rule.action is Action.TWICE:
            self._sent.append(_Sent(frame.api, rule, second=True))
            _send(self._far, frame.content)
        if rule is not None and rule.action is Action.HOLD:
            rule.wait_answer()  # or the broker would see the end of the connection first
        return True

    def down(self) -> None:
        silent = False
        with contextlib.suppress(OSError):
            while (answer := _receive(self._far)) is not None and self._proxy.passes():
                sent = self._sent.popleft()
                action = Action.PASS
                if sent.rule is not None:
                    action = sent.rule.action
                    sent.rule.answered(answer)
                if action is Action.LOSE_ANSWER:
                    break
                silent = silent or action is Action.DROP_ANSWER
                if not silent and not sent.second:
                    with contextlib.suppress(OSError):  # a sender that is gone does not end the broker's side
                        _send(self._near, self._proxy.rewritten(sent.api, answer))
        self._cut()

    def _cut(self) -> None:
        _cut(self._near)
        _cut(self._far)


def _send(sink: socket.socket, content: bytes) -> None:
    sink.sendall(len(content).to_bytes(4, "big") + content)


def _receive(source: socket.socket) -> bytes | None:
    """The next frame without its length; None at the end of the connection."""
    head = _exactly(source, 4)
    return None if head is None else _exactly(source, int.from_bytes(head, "big"))


def _exactly(source: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        chunk = source.recv(min(size - len(parts), 1 << 20))
        if not chunk:
            return None
        parts += chunk
    return bytes(parts)


def _cut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
