"""The classic group coordinator in memory: join, sync, heartbeat, leave, static members, session time-outs.

The rules and error codes are those of Kafka's classic groups (KIP-345 for static members, KIP-447 for the check of
transactional offsets), seen on a real broker by `tests/contract`. Answers that have to wait for other members are
given to a `reply` callback.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto

from streamapp.eos.protocol import Code, Membership
from streamapp.testing.members import (
    Assignment,
    Join,
    JoinAnswer,
    JoinReply,
    MemoryGroupMember,
    Schedule,
    SyncAnswer,
    SyncReply,
    Timer,
)
from streamapp.testing.offsets import GroupOffsets


class Phase(Enum):
    """Where a group is in its rebalance."""

    EMPTY = auto()
    #: Waiting for the members to join again; the old generation still counts.
    PREPARING = auto()
    #: The new generation has begun; waiting for the leader's assignment.
    COMPLETING = auto()
    STABLE = auto()


class Group:
    """A consumer group: its seats, its generation, its offsets."""

    def __init__(self, name: str, now_s: Callable[[], float], schedule: Schedule, initial_delay_s: float) -> None:
        self.name = name
        self.offsets = GroupOffsets()
        self.phase = Phase.EMPTY
        self.generation = 0
        self.leader = ""
        self.members: dict[str, MemoryGroupMember] = {}
        self.instances: dict[str, str] = {}
        self._now_s = now_s
        self._schedule = schedule
        self._initial_delay_s = initial_delay_s
        self._rebalance: Timer | None = None
        self._named = 0

    def join(self, join: Join, reply: JoinReply) -> None:
        """Take or keep a seat; the reply comes when the rebalance it may cause has gathered everybody."""
        member_id = join.member_id
        if join.instance_id is not None:
            seated = self.instances.get(join.instance_id)
            if seated is not None and not member_id:
                return self._replace(seated, join, reply)
            if seated is not None and seated != member_id:
                return reply(JoinAnswer(Code.FENCED_INSTANCE_ID, member_id=member_id))
        if member_id and member_id not in self.members:
            return reply(JoinAnswer(Code.UNKNOWN_MEMBER_ID, member_id=member_id))
        if not member_id:
            return self._seat(join, reply)
        return self._rejoin(self.members[member_id], join, reply)

    def sync(self, membership: Membership, assignments: Mapping[str, Assignment], reply: SyncReply) -> None:
        """Give (the leader) or get the assignment of this generation."""
        if code := self._check(membership):
            return reply(SyncAnswer(code))
        member = self.members[membership.member_id]
        if self.phase is Phase.PREPARING:
            return reply(SyncAnswer(Code.REBALANCE_IN_PROGRESS))
        self._alive(member)
        if self.phase is Phase.STABLE:
            return reply(SyncAnswer(Code.NONE, member.assignment))
        member.answer_sync(SyncAnswer(Code.REBALANCE_IN_PROGRESS))
        member.sync_reply = reply
        if member.member_id == self.leader:
            self.phase = Phase.STABLE
            self._cancel_rebalance()
            for other in self.members.values():
                other.assignment = assignments.get(other.member_id, b"")
                other.answer_sync(SyncAnswer(Code.NONE, other.assignment))
        return None

    def heartbeat(self, membership: Membership) -> int:
        """Stay alive, and hear of a rebalance (27)."""
        if code := self._check(membership):
            return code
        self._alive(self.members[membership.member_id])
        return Code.REBALANCE_IN_PROGRESS if self.phase is Phase.PREPARING else Code.NONE

    def leave(self, member_id: str, instance_id: str | None = None) -> int:
        """Give the seat back at once instead of letting the session run out."""
        if instance_id is not None:
            seated = self.instances.get(instance_id)
            if seated is None:
                return Code.UNKNOWN_MEMBER_ID
            if member_id and seated != member_id:
                return Code.FENCED_INSTANCE_ID
            member_id = seated
        if member_id not in self.members:
            return Code.UNKNOWN_MEMBER_ID
        self._remove(self.members[member_id])
        return Code.NONE

    def refuse_offsets(self, membership: Membership) -> int:
        """The code for transactional offsets of this membership; (-1, "") is not checked at all (KIP-447)."""
        if membership.generation < 0 and not membership.member_id and membership.instance_id is None:
            return Code.NONE
        if not self.members and membership.generation < 0:
            return Code.NONE
        return self._check(membership)

    def _check(self, membership: Membership) -> int:
        if membership.instance_id is not None:
            seated = self.instances.get(membership.instance_id)
            if seated is None:
                return Code.UNKNOWN_MEMBER_ID
            if seated != membership.member_id:
                return Code.FENCED_INSTANCE_ID
        if membership.member_id not in self.members:
            return Code.UNKNOWN_MEMBER_ID
        return Code.NONE if membership.generation == self.generation else Code.ILLEGAL_GENERATION

    def _seat(self, join: Join, reply: JoinReply) -> None:
        member = MemoryGroupMember(self._name(join), join)
        self.members[member.member_id] = member
        if join.instance_id is not None:
            self.instances[join.instance_id] = member.member_id
        self.leader = self.leader or member.member_id
        self._alive(member)
        member.join_reply = reply
        self._prepare()

    def _rejoin(self, member: MemoryGroupMember, join: Join, reply: JoinReply) -> None:
        changed, member.join = join.subscription != member.join.subscription, join
        self._alive(member)
        settled = self.phase is Phase.COMPLETING or (self.phase is Phase.STABLE and member.member_id != self.leader)
        if settled and not changed:
            return reply(self._joined(member))
        member.answer_join(JoinAnswer(Code.UNKNOWN_MEMBER_ID))
        member.join_reply = reply
        return self._prepare()

    def _replace(self, seated: str, join: Join, reply: JoinReply) -> None:
        """A static member is back under a new member id: the old id is fenced, the partitions stay (KIP-345)."""
        member = self.members.pop(seated)
        member.answer_join(JoinAnswer(Code.FENCED_INSTANCE_ID, member_id=seated))
        member.answer_sync(SyncAnswer(Code.FENCED_INSTANCE_ID))
        member.member_id, member.join = self._name(join), join
        self.members[member.member_id] = member
        self.instances[str(join.instance_id)] = member.member_id
        if self.leader == seated:
            self.leader = member.member_id
        self._alive(member)
        if self.phase is Phase.STABLE:
            # Whatever it subscribes now: the coordinator looks at the assignor's name only, and ours has one (KIP-345).
            # No member list even for a leader: it has nothing to assign, the assignment stands.
            return reply(self._joined(member)._replace(members=()))
        member.join_reply = reply
        return self._prepare()

    def _name(self, join: Join) -> str:
        self._named += 1
        return f"{join.instance_id or 'member'}-{self._named}"

    def _alive(self, member: MemoryGroupMember) -> None:
        member.deadline_s = self._now_s() + member.join.session_timeout_ms / 1000
        if member.expiry is None:
            self._watch(member)

    def _watch(self, member: MemoryGroupMember) -> None:
        def look() -> None:
            member.expiry = None
            if self.members.get(member.member_id) is not member:
                return
            if member.join_reply is not None:
                # Who waits for the others to join cannot send heartbeats.
                self._alive(member)
            elif self._now_s() >= member.deadline_s:
                self._remove(member)
            else:
                self._watch(member)

        member.expiry = self._schedule(max(member.deadline_s - self._now_s(), 0.001), look)

    def _remove(self, member: MemoryGroupMember) -> None:
        self._unseat(member)
        if self.phase is Phase.PREPARING:
            self._complete_if_gathered()
        elif self.phase is not Phase.EMPTY:
            self._prepare()

    def _unseat(self, member: MemoryGroupMember) -> None:
        del self.members[member.member_id]
        if self.instances.get(member.join.instance_id or "") == member.member_id:
            del self.instances[str(member.join.instance_id)]
        if member.expiry is not None:
            member.expiry.cancel()
            member.expiry = None
        member.answer_join(JoinAnswer(Code.UNKNOWN_MEMBER_ID))
        member.answer_sync(SyncAnswer(Code.UNKNOWN_MEMBER_ID))
        if self.leader == member.member_id:
            self.leader = next(iter(self.members), "")

    def _prepare(self) -> None:
        if self.phase is Phase.PREPARING:
            return self._complete_if_gathered()
        first, self.phase = self.phase is Phase.EMPTY, Phase.PREPARING
        for member in self.members.values():
            member.answer_sync(SyncAnswer(Code.REBALANCE_IN_PROGRESS))
        self._cancel_rebalance()
        if first and self._initial_delay_s > 0:
            self._rebalance = self._schedule(self._initial_delay_s, self._complete)
            return None
        bound_s = max((member.join.rebalance_timeout_ms for member in self.members.values()), default=0) / 1000
        self._rebalance = self._schedule(bound_s, self._complete)
        return self._complete_if_gathered()

    def _complete_if_gathered(self) -> None:
        if all(member.join_reply is not None for member in self.members.values()):
            self._complete()

    def _complete(self) -> None:
        """Begin the next generation with those who joined; a static member keeps its seat for its session."""
        self._cancel_rebalance()
        for member in list(self.members.values()):
            if member.join_reply is None and member.join.instance_id is None:
                self._unseat(member)
        self.generation += 1
        if not self.members:
            self.phase, self.leader = Phase.EMPTY, ""
            return
        joined = [member for member in self.members.values() if member.join_reply is not None]
        if not joined:
            # Only silent static members are left; the group waits for them or for the end of their sessions.
            self.generation -= 1
            self._rebalance = self._schedule(1.0, self._complete)
            return
        if self.members[self.leader].join_reply is None:
            self.leader = joined[0].member_id
        self.phase = Phase.COMPLETING
        bound_s = max(member.join.rebalance_timeout_ms for member in joined) / 1000
        self._rebalance = self._schedule(bound_s, self._drop_unsynced)
        for member in joined:
            self._alive(member)
            member.answer_join(self._joined(member))

    def _drop_unsynced(self) -> None:
        """Who never asked for its assignment is gone."""
        self._rebalance = None
        for member in [member for member in self.members.values() if member.sync_reply is None]:
            if member.member_id in self.members:
                self._remove(member)

    def _joined(self, member: MemoryGroupMember) -> JoinAnswer:
        everybody: tuple[tuple[str, bytes], ...] = ()
        if member.member_id == self.leader:
            everybody = tuple((other.member_id, other.join.subscription) for other in self.members.values())
        return JoinAnswer(Code.NONE, self.generation, member.member_id, self.leader, everybody)

    def _cancel_rebalance(self) -> None:
        if self._rebalance is not None:
            self._rebalance.cancel()
            self._rebalance = None
