"""A seat in a consumer group: what a member asks for, what it is told, and what it still waits for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple, Protocol

from streamapp.types import Partition

#: What the leader gave a member; the group does not look inside.
Assignment = bytes


#: What a member that is a `MemoryConsumer` says of itself when it joins: its topics, each with its partition count.
Topics = dict[str, int]


def said(topics: Topics, asked: int) -> bytes:
    """A member's subscription; `asked` makes another text of it, for which the group rebalances."""
    return json.dumps({"topics": topics, "asked": asked}).encode()


def topics_in(subscription: bytes) -> Topics:
    """The topics a member reads."""
    topics: Topics = json.loads(subscription)["topics"]
    return topics


class Share(NamedTuple):
    """What a `MemoryConsumer` that leads gives a member, and the topics it was made for (ADR 0011)."""

    partitions: list[Partition]
    made_for: frozenset[str]

    def pack(self) -> Assignment:
        return json.dumps({"partitions": self.partitions, "made_for": sorted(self.made_for)}).encode()

    @classmethod
    def unpack(cls, assignment: Assignment) -> Share:
        """The share of a member; one that the leader did not know has nothing, made for nothing."""
        found = json.loads(assignment or b'{"partitions": [], "made_for": []}')
        return cls([Partition(*partition) for partition in found["partitions"]], frozenset(found["made_for"]))


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


class MemoryGroupMember:
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
