"""Who owns which partition, asked of the group's coordinator; nobody keeps a copy that could be wrong for long."""

from __future__ import annotations

import asyncio
from typing import Protocol

from streamapp.clock import Clock
from streamapp.driver.assignor import address_in
from streamapp.eos.cluster import NoAnswer
from streamapp.eos.protocol import Code, GroupDescription
from streamapp.types import Partition

#: How long an answer of the coordinator is used, in seconds. A worker that is asked in vain is no owner, so an old
#: answer costs a question and never a wrong value.
KEPT_S = 1.0


class GroupDescriber(Protocol):
    """What is asked of a cluster."""

    async def describe_group(self, group: str) -> GroupDescription:
        """The group's members, as its coordinator has them now."""


class PartitionOwners:
    """The owners of one group's partitions."""

    def __init__(self, coordinator: GroupDescriber, group: str, clock: Clock) -> None:
        self._coordinator = coordinator
        self._group = group
        self._clock = clock
        self._asking = asyncio.Lock()
        self._found: dict[Partition, str | None] = {}
        self._asked_at = float("-inf")

    async def owners(self) -> dict[Partition, str | None]:
        """Input partition -> where its owner's views answer (None: it has none). Empty while the group rebalances."""
        async with self._asking:  # many requests, one question
            if self._clock.monotonic() - self._asked_at > KEPT_S:
                self._found = await self._ask()
                self._asked_at = self._clock.monotonic()
            return self._found

    def forget(self) -> None:
        """The answer was out of date: ask anew."""
        self._asked_at = float("-inf")

    async def _ask(self) -> dict[Partition, str | None]:
        try:
            group = await self._coordinator.describe_group(self._group)
        except (NoAnswer, ValueError):  # ValueError: a member that is none of ours, and says what nobody can read
            return {}
        if group.error != Code.NONE:
            return {}
        return {partition: address_in(member.said) for member in group.members for partition in member.owned}
