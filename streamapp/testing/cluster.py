"""One client's connection to the broker in memory: the engine's `Cluster`, with faults between the two."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from streamapp.eos.cluster import NoAnswer
from streamapp.eos.protocol import (
    Code,
    EndTxn,
    EndTxnAnswer,
    EpochEnd,
    EpochEnds,
    Features,
    GroupDescription,
    GroupMember,
    InitProducerId,
    InitProducerIdAnswer,
    ListedOffset,
    ListOffsets,
    ListOffsetsAnswer,
    Membership,
    OffsetCommit,
    OffsetCommitAnswer,
    OffsetFetch,
    OffsetFetchAnswer,
    Produce,
    ProduceAnswer,
    Produced,
    TopicDescription,
    TxnOffsetCommit,
    TxnOffsetCommitAnswer,
)
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.faults import Fate, Faults, NoFaults
from streamapp.testing.groups import Group, Phase
from streamapp.testing.log import Fetched
from streamapp.testing.loop import current_process
from streamapp.testing.members import Assignment, Join, JoinAnswer, Share, SyncAnswer
from streamapp.types import Partition

T = TypeVar("T")
Reply = Callable[[T], None]


class MemoryCluster:
    """Implements `eos.cluster.Cluster`, and what a consumer says besides.

    A request that was sent goes its way even if the caller is cancelled, frozen or killed meanwhile.
    """

    def __init__(self, broker: MemoryBroker, faults: Faults | None = None) -> None:
        self._broker = broker
        self._faults = faults or NoFaults()

    async def features(self) -> Features:
        return await self._call("features", self._broker.features)

    async def describe_topic(self, topic: str) -> TopicDescription:
        return await self._call("describe_topic", lambda: self._broker.describe_topic(topic))

    async def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        return await self._call("topic_ids", lambda: self._broker.topic_ids(topics))

    async def epoch_ends(self, epochs: Mapping[Partition, int]) -> EpochEnds:
        return await self._call(
            "epoch_ends", lambda: self._broker.epoch_ends(epochs), lambda code: _all(epochs, EpochEnd(code))
        )

    async def leaders(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        return await self._call("leaders", lambda: self._broker.leaders(partitions))

    async def init_producer_id(self, request: InitProducerId) -> InitProducerIdAnswer:
        return await self._call(
            "init_producer_id", lambda: self._broker.init_producer_id(request), InitProducerIdAnswer
        )

    async def produce(self, node: int, request: Produce) -> ProduceAnswer:
        # The builders are used again for the next transaction; a request still on its way keeps its own bytes.
        sent = request._replace(batches={where: bytes(batch) for where, batch in request.batches.items()})
        return await self._call(
            "produce", lambda: self._broker.produce(sent), lambda code: _all(sent.batches, Produced(code))
        )

    async def commit_offsets(self, request: TxnOffsetCommit) -> TxnOffsetCommitAnswer:
        sent = request._replace(offsets=dict(request.offsets))
        return await self._call(
            "commit_offsets", lambda: self._broker.commit_offsets(sent), lambda code: _all(sent.offsets, code)
        )

    async def commit_plain_offsets(self, request: OffsetCommit) -> OffsetCommitAnswer:
        sent = request._replace(offsets=dict(request.offsets))
        return await self._call(
            "commit_plain_offsets",
            lambda: self._broker.commit_plain_offsets(sent),
            lambda code: _all(sent.offsets, code),
        )

    async def end_transaction(self, request: EndTxn) -> EndTxnAnswer:
        return await self._call("end_transaction", lambda: self._broker.end_transaction(request), EndTxnAnswer)

    async def fetch_offsets(self, request: OffsetFetch) -> OffsetFetchAnswer:
        return await self._call(
            "fetch_offsets", lambda: self._broker.fetch_offsets(request), lambda code: OffsetFetchAnswer(code, {})
        )

    async def list_offsets(self, request: ListOffsets) -> ListOffsetsAnswer:
        return await self._call(
            "list_offsets",
            lambda: self._broker.list_offsets(request),
            lambda code: _all(request.partitions, ListedOffset(code)),
        )

    async def describe_group(self, group: str) -> GroupDescription:
        return await self._call(
            "describe_group", lambda: _described(self._broker.group(group)), lambda code: GroupDescription(code, "", ())
        )

    async def close(self) -> None:
        """Nothing is held open."""

    # The consumer's side

    async def join_group(self, join: Join) -> JoinAnswer:
        """Answered when the rebalance has gathered the members."""
        return await self._ask("join_group", lambda reply: self._broker.group(join.group).join(join, reply))

    async def sync_group(self, membership: Membership, assignments: Mapping[str, Assignment]) -> SyncAnswer:
        """Answered when the leader has brought the assignment."""
        group = membership.group
        return await self._ask(
            "sync_group", lambda reply: self._broker.group(group).sync(membership, assignments, reply)
        )

    async def heartbeat(self, membership: Membership) -> int:
        return await self._call("heartbeat", lambda: self._broker.group(membership.group).heartbeat(membership))

    async def leave_group(self, membership: Membership) -> int:
        group, member, instance = membership.group, membership.member_id, membership.instance_id
        return await self._call("leave_group", lambda: self._broker.group(group).leave(member, instance))

    async def fetch(
        self,
        positions: Mapping[Partition, int],
        *,
        committed_only: bool = True,
        wait_s: float = 0.0,
        record_limit: int = 500,
    ) -> dict[Partition, Fetched]:
        """Records from these positions; with `wait_s` answered as soon as there is one, at the latest after it.

        A partition whose topic is gone is left out.
        """
        asked = dict(positions)
        return await self._ask("fetch", lambda reply: self._fetch(asked, committed_only, wait_s, record_limit, reply))

    def _fetch(
        self,
        positions: dict[Partition, int],
        committed_only: bool,
        wait_s: float,
        record_limit: int,
        reply: Reply[dict[Partition, Fetched]],
    ) -> None:
        logs = self._broker.logs
        found = {
            partition: logs[partition].fetch(position, committed_only=committed_only, record_limit=record_limit)
            for partition, position in positions.items()
            if partition in logs
        }
        moved = any(part.error or part.position != positions[partition] for partition, part in found.items())
        if moved or wait_s <= 0:
            reply(found)
            return
        waiting = True

        def again() -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                timer.cancel()
                self._fetch(positions, committed_only, 0.0, record_limit, reply)

        timer = _later(wait_s, again)
        for partition in found:
            logs[partition].watch(again)

    async def _call(self, name: str, answer: Callable[[], T], refusal: Callable[[int], T] | None = None) -> T:
        """`refusal` makes the answer of a broker that does not carry the request out."""
        fate = self._faults.fate(name)
        if fate.refusal and refusal is not None:
            code, refuse = fate.refusal, refusal
            return await self._send(name, lambda reply: reply(refuse(code)), fate)
        return await self._send(name, lambda reply: reply(answer()), fate)

    async def _ask(self, name: str, carry_out: Callable[[Reply[T]], None]) -> T:
        """For answers that may take their time."""
        return await self._send(name, carry_out, self._faults.fate(name))

    async def _send(self, name: str, carry_out: Callable[[Reply[T]], None], fate: Fate) -> T:
        """Send a request to its fate. `carry_out` runs when it arrives and gets where to put the answer."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        process = current_process()
        if process is not None and process.dead:  # what a `finally` still tries on the way out of a crash
            return await answer

        def deliver(result: T) -> None:
            if not answer.done():
                answer.set_result(result)

        def reply(result: T) -> None:
            if fate.answer_s is not None:
                _later(fate.answer_s, deliver, result)

        def give_up() -> None:
            if not answer.done():
                answer.set_exception(NoAnswer(f"{name} got no answer"))

        for index, arrival_s in enumerate(fate.arrivals_s):
            _later(arrival_s, carry_out, reply if index == 0 else _ignore)
        lost = not fate.arrivals_s or fate.answer_s is None or fate.arrivals_s[0] > fate.patience_s
        patience = _later(fate.patience_s, give_up) if lost else None
        try:
            return await answer
        finally:
            if patience is not None:
                patience.cancel()


def _described(group: Group) -> GroupDescription:
    """What members say of themselves is not kept: they have no views."""
    stable = group.phase is Phase.STABLE
    owned = (Share.unpack(member.assignment).partitions if stable else () for member in group.members.values())
    return GroupDescription(
        Code.NONE, group.phase.name.capitalize(), tuple(GroupMember(b"", frozenset(partitions)) for partitions in owned)
    )


def _later(delay_s: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
    """A timer of the network's own: what is on its way outlives who sent it."""
    return asyncio.get_running_loop().call_later(delay_s, callback, *args, context=contextvars.Context())


def _all(partitions: Iterable[Partition], value: T) -> dict[Partition, T]:
    return dict.fromkeys(partitions, value)


def _ignore(result: object) -> None:
    """The answer to a request the network repeated: nobody waits for it."""
