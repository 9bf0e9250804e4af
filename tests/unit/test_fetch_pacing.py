"""What little a fetch brought is handed over at once, and the next fetch waits; plenty, or nothing, delays nobody."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.structs import TopicPartition

from streamapp.client import environment as client
from streamapp.client import fetch as fetches
from streamapp.client.cluster import KafkaCluster
from streamapp.client.fetch_delay import pause_s
from streamapp.settings import Settings

TP = TopicPartition("transfer", 0)
REQUEST: Any = SimpleNamespace(topics=[("transfer", [(0, 7, 1000)])])
PLENTY = 256 << 10
#: The routine's own time-out, longer than a test waits.
LONG_S = 30.0


@pytest.mark.parametrize(
    ("interval_s", "byte_count", "wanted_s"),
    [
        (0.1, 1, 0.01),
        (0.1, PLENTY - 1, 0.01),
        (0.1, PLENTY, 0.0),
        (0.1, 0, 0.0),
        (0.01, 500, 0.001),
        (5.0, 500, 0.01),
    ],
)
@pytest.mark.parametrize("due_in_s", [math.inf, 10.0])
def test_the_pause_is_a_tenth_of_the_commit_interval_and_bounded(
    interval_s: float, byte_count: int, wanted_s: float, due_in_s: float
) -> None:
    assert pause_s(interval_s, byte_count, due_in_s) == pytest.approx(wanted_s)


@pytest.mark.parametrize(
    ("due_in_s", "wanted_s"), [(0.02, 0.01), (0.015, 0.005), (0.01, 0.0), (0.004, 0.0), (0.0, 0.0), (-0.05, 0.0)]
)
def test_shortly_before_a_commit_is_due_there_is_no_pause(due_in_s: float, wanted_s: float) -> None:
    assert pause_s(0.1, 500, due_in_s) == pytest.approx(wanted_s)


@pytest.mark.parametrize(("due_in_s", "wanted_s"), [(math.inf, 0.01), (0.004, 0.0)])
async def test_a_member_of_the_real_environment_asks_how_soon_a_commit_is_due(due_in_s: float, wanted_s: float) -> None:
    settings = Settings(id="any", broker="127.0.0.1:1", commit_interval=0.1)
    environment = client.KafkaEnvironment(settings, None)
    environment._cluster = KafkaCluster(None)  # as if it were connected
    member = environment.member(lambda: due_in_s)
    try:
        assert member._pause_s(500) == pytest.approx(wanted_s)
    finally:
        await member.close()


class Spaced:
    """A fetch that brings so many bytes; `pauses` are those behind it."""

    def __init__(self, byte_count: int, patch: pytest.MonkeyPatch) -> None:
        self.byte_count = byte_count
        self.arrived, self.pauses = list[bool](), list[float]()
        self.pausing = asyncio.Event()
        self.results = fetches.FetchResults(on_arrival=lambda: self.arrived.append(True))
        fetcher = SimpleNamespace(_proc_fetch_request=self._bring, _notify=print, _wait_consume_future=None)
        self.spaced = fetches.PacedFetches(fetcher, self.results, lambda size: 0.005 if 0 < size < PLENTY else 0.0)
        patch.setattr(fetches.asyncio, "sleep", self._sleep)

    async def _bring(self, assignment: Any, node: int, request: Any) -> bool:
        if self.byte_count:
            self.results._byte_counts[TP] = self.byte_count
            self.results._on_arrival()
        return self.byte_count > 0

    async def _sleep(self, pause: float) -> None:
        assert self.arrived, "what came is there before the pause"
        self.pauses.append(pause)
        self.pausing.set()
        if self.byte_count == 1:
            await asyncio.Event().wait()


@pytest.mark.parametrize(("byte_count", "pauses"), [(500, [0.005]), (PLENTY, []), (0, [])])
async def test_a_fetch_is_over_behind_its_pause(
    byte_count: int, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Spaced(byte_count, monkeypatch)
    assert await it.spaced.fetch(None, 1, REQUEST) is (byte_count > 0)
    assert it.pauses == pauses
    # Its bytes are forgotten: an empty answer that follows is asked for again at once.
    it.byte_count = 0
    assert await it.spaced.fetch(None, 1, REQUEST) is False
    assert it.pauses == pauses


async def test_a_pause_that_is_cancelled_ends_as_a_fetch_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka ends all its fetching, without a word, for a fetch that ends as cancelled."""
    it = Spaced(1, monkeypatch)
    fetch = asyncio.ensure_future(it.spaced.fetch(None, 1, REQUEST))
    await it.pausing.wait()
    fetch.cancel()
    assert await fetch is False


class Routine:
    """aiokafka's routine of fetching, with one broker that answers as soon as `turns` of the loop have passed."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.sent = 0
        fetcher = self.fetcher = object.__new__(Fetcher)  # without a client that would connect
        unassigned = asyncio.get_running_loop().create_future()
        assignment = SimpleNamespace(active=True, unassign_future=unassigned)
        subscriptions = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
        vars(fetcher).update(_pending_tasks=set(), _in_flight=set(), _records={}, _fetch_waiters=set())
        vars(fetcher).update(_wait_consume_future=None, _subscriptions=subscriptions)
        vars(fetcher).update(_get_actions_per_node=self._actions, _proc_fetch_request=self._answer)
        vars(fetcher).update(
            _proc_fetch_request=fetches.PacedFetches(fetcher, fetches.FetchResults(), lambda _: 0.0).fetch
        )

    def _actions(self, assignment: Any) -> Any:
        free = [] if 1 in self.fetcher._in_flight else [(1, REQUEST)]
        self.sent += len(free)
        return free, {}, LONG_S, False, []

    async def _answer(self, assignment: Any, node: int, request: Any) -> bool:
        self.fetcher._notify(self.fetcher._wait_consume_future)  # something of an earlier answer is taken
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return False


@pytest.mark.parametrize("turns", range(6))
async def test_the_next_fetch_is_sent_though_its_routine_woke_while_the_last_one_ended(turns: int) -> None:
    it = Routine(turns)
    routine = asyncio.ensure_future(it.fetcher._fetch_requests_routine())
    try:
        async with asyncio.timeout(LONG_S / 3):
            while it.sent < 5:  # noqa: ASYNC110 - nothing tells when it is
                await asyncio.sleep(0)
    finally:
        routine.cancel()
        await routine
