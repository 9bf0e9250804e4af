"""A seat in a consumer group: what a member asks for, what it is told, and what it still waits for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple, Protocol

from streamapp.types import Partition

#: What the leader gave a member; the group does not look inside.
Assignment = bytes


def partitions_in(assignment: Assignment) -> list[Partition]:
    """What a `MemoryConsumer` that leads gives a member."""
    return [Partition(topic, number) for topic, number in json.loads(assignment or b"[]")]


class Join(NamedTuple):
    """A wish to be a member. An empty `member_id` is somebody new (or an instance that was started again)."""

    group: str
    member_id: str = ""
    instance_id: str | None = None
    session_timeout_ms: int = 10_000
    rebalance_timeout_ms: int = 60_000
    #: What the leader needs to know of the member, such as its topics.
    subscription: bytes = b""


class JoinAnswer(NamedTuple):
    """The leader finds everybody's subscription in `members`; for others it is empty."""

    error: int
    generation: int = -1
    member_id: str = ""
    leader: str = ""
    members: tuple[tuple[str, bytes], ...] = ()


class SyncAnswer(NamedTuple):
    error: int
    assignment: Assignment = b""


class Timer(Protocol):
    """What a scheduler gives back."""

    def cancel(self) -> None: ...


#: Seconds from now, and what to call then.
Schedule = Callable[[float, Callable[[], None]], Timer]
JoinReply = Callable[[JoinAnswer], None]
SyncReply = Callable[[SyncAnswer], None]


class Member:
    """A seat in the group."""

    def __init__(self, member_id: str, join: Join) -> None:
        self.member_id = member_id
        self.join = join
        self.deadline_s = 0.0
        self.assignment: Assignment = b""
        self.join_reply: JoinReply | None = None
        self.sync_reply: SyncReply | None = None
        self.expiry: Timer | None = None

    def answer_join(self, answer: JoinAnswer) -> None:
        if self.join_reply is not None:
            reply, self.join_reply = self.join_reply, None
            reply(answer)

    def answer_sync(self, answer: SyncAnswer) -> None:
        if self.sync_reply is not None:
            reply, self.sync_reply = self.sync_reply, None
            reply(answer)
