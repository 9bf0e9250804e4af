"""What a member says of itself, and what it learns from an assignment: whether that was made for its topics."""

from __future__ import annotations

import math
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocol
from faust.assignor.partition_assignor import PartitionAssignor
from yarl import URL

from streamapp.client.cluster import KafkaCluster
from streamapp.client.member import ConsumerEnded, KafkaMember
from streamapp.driver.assignor import Assignor, address_in
from streamapp.settings import Settings


class Cluster:
    """Four partitions of whatever is asked for."""

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(4))


def app() -> Any:
    sensors = SimpleNamespace(
        on_assignment_start=lambda *_: None, on_assignment_completed=lambda *_: None, on_assignment_error=print
    )
    tables = SimpleNamespace(data={}, changelog_topics=set())
    conf = SimpleNamespace(canonical_url=URL("http://streamapp.invalid/"))
    return SimpleNamespace(
        tables=tables, tracer=None, sensors=sensors, conf=conf, views_address="http://127.0.0.1:6066"
    )


def sent(assignment: Any) -> Any:
    """As it is on the wire."""
    return ConsumerProtocol.ASSIGNMENT.decode(assignment.encode())


def joined(**members: tuple[PartitionAssignor, set[str]]) -> dict[str, Any]:
    said = {name: assignor.metadata(topics).encode() for name, (assignor, topics) in members.items()}
    return {name: ConsumerProtocol.METADATA.decode(text) for name, text in said.items()}


def test_a_member_sees_that_an_assignment_was_made_for_what_it_subscribes() -> None:
    one, two = Assignor(app()), Assignor(app())
    made = one.assign(Cluster(), joined(one=(one, {"a", "b"}), two=(two, {"b"})))
    for assignor, name in ((one, "one"), (two, "two")):
        assignor.on_assignment(sent(made[name]))
        assert assignor.fits
    assert two.made_for == {"b"}


def test_a_member_that_came_back_with_other_topics_sees_that_the_old_assignment_is_not_for_them() -> None:
    before = Assignor(app())
    made = before.assign(Cluster(), joined(one=(before, {"a", "b"})))["one"]
    for topics in ({"a"}, {"a", "b", "c"}, {"b", "c"}):
        after = Assignor(app())
        after.metadata(topics)
        after.on_assignment(sent(made))
        assert not after.fits
        assert after.made_for == {"a", "b"}


def test_members_of_stock_faust_and_ours_read_each_other() -> None:
    ours, fausts = Assignor(app()), PartitionAssignor(app())
    members = joined(ours=(ours, {"a"}), fausts=(fausts, {"a"}))
    fausts.on_assignment(sent(ours.assign(Cluster(), members)["fausts"]))
    ours.on_assignment(sent(fausts.assign(Cluster(), members)["ours"]))
    assert ours.made_for is None, "a leader that does not say it"
    assert not ours.fits
    assert len(ours.assigned_actives()) == len(fausts.assigned_actives()) == 2


def test_who_asks_for_another_assignment_says_something_new_and_keeps_its_address() -> None:
    assignor = Assignor(app())
    texts = []
    for _ in range(3):
        texts.append(assignor.metadata({"a"}).user_data)
        assignor.ask_for_another()
    assert len(set(texts)) == 3
    assert {address_in(text) for text in texts} == {"http://127.0.0.1:6066"}
    assert assignor.metadata({"a"}).user_data == assignor.metadata({"a"}).user_data, "else every join would rebalance"


async def test_a_group_that_gives_others_topics_again_and_again_ends_the_worker() -> None:
    assignor, asked = Assignor(app()), []
    options = {"bootstrap_servers": "127.0.0.1:1"}
    member = KafkaMember(Settings(instance="one"), assignor, options, lambda: math.inf, KafkaCluster(None))
    member._consumer._coordinator = SimpleNamespace(request_rejoin=lambda: asked.append(None))
    member._consumer.subscribe(["a"])
    assignor.metadata({"a"})
    assignor.made_for = frozenset({"b"})
    for _ in range(4):
        assert not member.has_true_assignment()
    assert len(asked) == 3
    with pytest.raises(ConsumerEnded, match="what was committed is kept"):
        await member.fetch(0.1, 1)
    member._consumer._coordinator = None
    await member.close()


async def test_a_leader_that_does_not_say_for_what_it_assigned_is_asked_once() -> None:
    assignor, asked = Assignor(app()), []
    options = {"bootstrap_servers": "127.0.0.1:1"}
    member = KafkaMember(Settings(instance="one"), assignor, options, lambda: math.inf, KafkaCluster(None))
    member._consumer._coordinator = SimpleNamespace(request_rejoin=lambda: asked.append(None))
    member._consumer.subscribe(["a"])
    assignor.metadata({"a"})
    assert [member.has_true_assignment() for _ in range(3)] == [False, True, True]
    assert len(asked) == 1
    member._consumer._coordinator = None
    await member.close()


def test_an_assignment_kept_from_a_worker_at_another_address_fits_nothing() -> None:
    before = Assignor(app())
    made = sent(before.assign(Cluster(), joined(one=(before, {"a"})))["one"])
    said = zlib.decompress(made.user_data).replace(b"streamapp.invalid", b"127.0.0.1:6066")
    after = Assignor(app())
    after.metadata({"a"})
    after.on_assignment(SimpleNamespace(user_data=zlib.compress(said)))
    assert not after.fits
