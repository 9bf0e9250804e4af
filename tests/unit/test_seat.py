"""Giving a static member's seat back: only the own one, and never at the price of an error."""

from __future__ import annotations

import logging

import pytest

from streamapp.eos.cluster import NoAnswer
from streamapp.eos.membership import give_back
from streamapp.eos.protocol import Code, Membership
from streamapp.testing.broker import MemoryBroker
from streamapp.testing.clock import VirtualClock
from streamapp.testing.cluster import MemoryCluster
from streamapp.testing.loop import run
from streamapp.testing.members import Join

JOIN = Join("g", instance_id="one", subscription=b"topics")


async def seated(cluster: MemoryCluster) -> Membership:
    """A new process of the instance, in its seat."""
    joined = await cluster.join_group(JOIN)
    seat = Membership("g", joined.generation, joined.member_id, "one")
    assert (await cluster.sync_group(seat, {seat.member_id: b"all"})).error == 0
    return seat


class Answering(MemoryCluster):
    """Answers this; a text is what a lost answer says."""

    def __init__(self, *answers: int | str) -> None:
        super().__init__(MemoryBroker())
        self.answers = list(answers)

    async def leave_group(self, membership: Membership) -> int:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            raise NoAnswer(answer)
        return answer


def given_back(cluster: MemoryCluster, seat: Membership) -> None:
    run(lambda loop: give_back(cluster, seat, VirtualClock()))


def test_a_seat_is_given_back_and_a_twins_is_left_alone() -> None:
    async def story() -> None:
        broker = MemoryBroker()
        cluster = MemoryCluster(broker)
        older, newer = await seated(cluster), await seated(cluster)
        assert older.member_id != newer.member_id
        await give_back(cluster, older, VirtualClock())
        assert await cluster.heartbeat(newer) == 0, "the twin has lost its seat"
        await give_back(cluster, newer, VirtualClock())
        assert not broker.group("g").members

    run(lambda loop: story())


@pytest.mark.parametrize("answer", [Code.NOT_COORDINATOR, "connection lost"])
def test_what_is_not_answered_is_asked_again(answer: int | str, caplog: pytest.LogCaptureFixture) -> None:
    cluster = Answering(answer, answer, Code.UNKNOWN_MEMBER_ID)
    given_back(cluster, Membership("g", 1, "one-1", "one"))
    assert cluster.answers == [Code.UNKNOWN_MEMBER_ID]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("answer", [Code.GROUP_AUTHORIZATION_FAILED, Code.NOT_COORDINATOR, 12345, "connection lost"])
def test_a_seat_that_cannot_be_given_back_is_said_in_a_bounded_time(
    answer: int | str, caplog: pytest.LogCaptureFixture
) -> None:
    given_back(Answering(answer), Membership("g", 1, "one-1", "one"))
    assert "Other workers take its partitions after its session time-out" in caplog.text


@pytest.mark.parametrize("seat", [Membership("g", 1, "m-1"), Membership("g", -1, "", "one")])
def test_without_a_static_seat_nobody_is_asked(seat: Membership) -> None:
    cluster = Answering("asked", "again")
    given_back(cluster, seat)
    assert len(cluster.answers) == 2
