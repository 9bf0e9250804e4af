"""Faust's assignor; what a member says of itself when it joins also holds the address of its views (ADR 0007).

The group's coordinator keeps that text with the member, so whoever asks it who owns a partition learns where to ask.
And each assignment says which topics it was made for, so that a member sees when it is given an old one (ADR 0011).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from yarl import URL

_ADDRESS, _ASKED, _MADE_FOR = "views", "asked", "made_for"
_NO_URL = URL("http://streamapp.invalid/")


class Assignor(PartitionAssignor):
    """Faust's assignor, which adds the address of the worker's views to the member metadata.

    Partitions are assigned as Faust does it.
    """

    @property
    def _url(self) -> URL:
        # Faust's own entry must not change: a static member that comes back gets the assignment it had, with what it
        # said before, and Faust refuses one that names another URL. The address may have changed.
        return _NO_URL

    def __init__(self, app: Any, replicas: int = 0) -> None:
        super().__init__(app, replicas)
        self._subscribed: frozenset[str] = frozenset()
        self._asked = 0
        #: The topics the last assignment was made for; None: its leader did not say, being none of ours.
        self.made_for: frozenset[str] | None = None

    def metadata(self, topics: Iterable[str]) -> Any:
        """What this member says of itself; Faust's other members read past what is ours."""
        self._subscribed = frozenset(topics)
        made = super().metadata(topics)
        said = {**msgspec.json.decode(made.user_data), _ADDRESS: self.app.views_address, _ASKED: self._asked}
        return ConsumerProtocolMemberMetadata(made.version, made.subscription, msgspec.json.encode(said))

    def assign(self, cluster: Any, member_metadata: Any) -> Any:
        """Faust's assignment of every member, each with the topics it was made for."""
        made = super().assign(cluster, member_metadata)
        return {member: _stamped(share, member_metadata[member].subscription) for member, share in made.items()}

    def on_assignment(self, assignment: Any) -> None:
        """Faust's, and the topics it was made for are noted."""
        said = msgspec.json.decode(zlib.decompress(assignment.user_data))
        if said.get("url") != str(self._url):
            # Kept from a worker of an earlier version, which had another address in it; Faust fails an assertion.
            self.made_for = frozenset()
            return
        super().on_assignment(assignment)
        made_for = said.get(_MADE_FOR)
        self.made_for = None if made_for is None else frozenset(made_for)

    @property
    def fits(self) -> bool:
        """Whether the last assignment was made for the topics this member has joined for."""
        return self.made_for == self._subscribed

    def ask_for_another(self) -> None:
        """Say something new of this member at its next join.

        A member that joins again under its own id and says the same is given the assignment that stands; one that
        says something else makes the group rebalance (Kafka: `ClassicGroupMember.matches`).
        """
        self._asked += 1


def _stamped(share: Any, topics: Iterable[str]) -> Any:
    said = {**msgspec.json.decode(zlib.decompress(share.user_data)), _MADE_FOR: sorted(topics)}
    return ConsumerProtocolMemberAssignment(share.version, share.assignment, zlib.compress(msgspec.json.encode(said)))


def address_in(said: bytes) -> str | None:
    """The address a member gave, or None: it has no views, or is no member of ours."""
    try:
        found = msgspec.json.decode(said)
    except msgspec.DecodeError:
        return None
    address = found.get(_ADDRESS) if isinstance(found, dict) else None
    return address if isinstance(address, str) and address.startswith("http://") else None
