"""What an assignment asks of Kafka: stable offsets, plans, and a restore that ends at a position."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Any

import pytest

from streamapp.eos.cluster import NoAnswer
from streamapp.eos.protocol import (
    Code,
    CommittedOffset,
    ListedOffset,
    ListOffsets,
    OffsetFetch,
    OffsetFetchAnswer,
    OffsetOf,
)
from streamapp.eos.recovery import RestorePlan, RestoreProgress, restore, restore_plan, restore_plans, stable_offsets
from streamapp.eos.remedies import UnexpectedCode
from streamapp.errors import ConfigurationError, Unavailable
from streamapp.types import Partition

ONE, TWO = Partition("transfer", 0), Partition("transfer", 1)
LOG = Partition("app-balances-changelog", 0)


class QuickClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


class Offsets:
    """A cluster that only knows offsets: each call takes the next scripted answer, and the last one stays."""

    def __init__(self, fetches: Collection[Any] = (), **ends: Any) -> None:
        self.fetches = deque(fetches)
        self.ends = {OffsetOf[name.upper()]: deque(answers) for name, answers in ends.items()}
        self.asked: list[Any] = []

    async def fetch_offsets(self, request: OffsetFetch) -> OffsetFetchAnswer:
        assert request.require_stable
        self.asked.append(request)
        answer = self.fetches.popleft() if len(self.fetches) > 1 else self.fetches[0]
        if isinstance(answer, NoAnswer):
            raise answer
        if isinstance(answer, int):
            return OffsetFetchAnswer(answer, {})
        return OffsetFetchAnswer(0, {one: found for one, found in answer.items() if one in request.partitions})

    async def list_offsets(self, request: ListOffsets) -> dict[Partition, ListedOffset]:
        self.asked.append(request)
        answers = self.ends[request.which]
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        if isinstance(answer, NoAnswer):
            raise answer
        return dict.fromkeys(request.partitions, answer)


async def test_offsets_are_read_once_they_are_decided() -> None:
    undecided = CommittedOffset(Code.UNSTABLE_OFFSET_COMMIT)
    cluster: Any = Offsets(
        [
            NoAnswer("lost"),
            Code.NOT_COORDINATOR,
            {ONE: CommittedOffset(0, 7), TWO: undecided},
            {TWO: undecided},
            {TWO: CommittedOffset(0, -1)},
        ]
    )
    waits: list[Collection[Partition]] = []
    offsets = await stable_offsets(
        cluster, "app", (ONE, TWO), clock=QuickClock(), on_wait=lambda which, _: waits.append(list(which))
    )
    assert offsets == {ONE: 7, TWO: None}
    assert waits == [[ONE, TWO], [TWO], [TWO]]
    assert cluster.asked[-1].partitions == (TWO,), "what is known is not asked again"


async def test_the_wait_for_a_decision_is_bounded() -> None:
    cluster: Any = Offsets([{ONE: CommittedOffset(Code.UNSTABLE_OFFSET_COMMIT)}])
    clock = QuickClock()
    with pytest.raises(Unavailable, match="UNSTABLE_OFFSET_COMMIT"):
        await stable_offsets(cluster, "app", (ONE,), clock=clock, patience_s=30)
    assert 30 <= clock.time < 32


async def test_offsets_that_may_not_be_read_stop_the_worker() -> None:
    with pytest.raises(ConfigurationError, match="group app"):
        await stable_offsets(Offsets([Code.GROUP_AUTHORIZATION_FAILED]), "app", (ONE,), clock=QuickClock())  # type: ignore[arg-type]
    with pytest.raises(UnexpectedCode):
        await stable_offsets(Offsets([Code.UNKNOWN_MEMBER_ID]), "app", (ONE,), clock=QuickClock())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("checkpoint", "earliest", "end", "start", "wiped"),
    [
        (None, 0, 0, 0, False),
        (None, 5, 90, 5, False),
        (40, 5, 90, 40, False),
        (90, 5, 90, 90, False),
        (5, 5, 90, 5, False),
        (91, 5, 90, 5, True),
        (4, 5, 90, 5, True),
    ],
)
def test_a_checkpoint_against_its_changelog(
    checkpoint: int | None, earliest: int, end: int, start: int, wiped: bool
) -> None:
    plan = restore_plan(checkpoint, earliest, end)
    assert (plan.start, plan.target, plan.wipe is not None) == (start, end, wiped)
    assert plan.record_count == end - start


async def test_plans_are_made_from_the_high_watermark_not_from_the_last_stable_offset() -> None:
    cluster: Any = Offsets(
        earliest=[NoAnswer("lost"), ListedOffset(Code.NOT_LEADER_OR_FOLLOWER), ListedOffset(0, 2)],
        high_watermark=[ListedOffset(0, 50)],
        last_stable=[ListedOffset(0, 20)],
    )
    assert await restore_plans(cluster, {LOG: 10}, clock=QuickClock()) == {LOG: RestorePlan(10, 50)}


class Changelog:
    """A reader over offsets: each fetch goes as far as the next step says."""

    def __init__(self, *steps: tuple[int, int]) -> None:
        self.steps = deque(steps)
        self.at = 0

    async def fetch(self) -> int:
        if not self.steps:
            return 0
        count, self.at = self.steps.popleft()
        return count

    async def position(self, changelog: Partition) -> int:
        return self.at


async def test_a_restore_ends_when_the_position_is_there_though_no_record_is() -> None:
    """Five records and then a control record: the last one seen has offset 4, the position goes to 6."""
    reader = Changelog((3, 3), (2, 5), (0, 6))
    seen: list[RestoreProgress] = []
    cluster: Any = Offsets(last_stable=[ListedOffset(0, 6)])
    await restore(cluster, reader, {LOG: RestorePlan(0, 6)}, clock=QuickClock(), on_progress=seen.append)
    assert [(step.restored, step.remaining) for step in seen] == [(3, 3), (5, 1), (5, 0)]


async def test_a_restore_waits_out_an_open_transaction_below_its_target() -> None:
    reader = Changelog((3, 3), (0, 3), (0, 3), (4, 8))
    seen: list[RestoreProgress] = []
    cluster: Any = Offsets(last_stable=[ListedOffset(0, 3)])
    await restore(cluster, reader, {LOG: RestorePlan(0, 8)}, clock=QuickClock(), on_progress=seen.append)
    assert [step.blocked for step in seen] == [(), (LOG,), (LOG,), ()]
    assert seen[-1] == RestoreProgress(7, 0)


async def test_a_restore_that_does_not_move_ends_with_a_reason() -> None:
    clock = QuickClock()
    hung: Any = Offsets(last_stable=[ListedOffset(0, 3)])
    with pytest.raises(Unavailable, match=f"an open transaction in {LOG.topic}"):
        await restore(hung, Changelog((3, 3)), {LOG: RestorePlan(0, 8)}, clock=clock, patience_s=20)
    assert 20 <= clock.time < 22
    silent: Any = Offsets(last_stable=[NoAnswer("lost")])
    with pytest.raises(Unavailable, match="nothing comes"):
        await restore(silent, Changelog((3, 3)), {LOG: RestorePlan(0, 8)}, clock=clock, patience_s=20)


async def test_nothing_to_restore_reads_nothing() -> None:
    cluster: Any = Offsets()
    await restore(cluster, Changelog(), {LOG: RestorePlan(8, 8)}, clock=QuickClock())
    await restore(cluster, Changelog(), {}, clock=QuickClock())
