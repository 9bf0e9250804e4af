"""Faust's assignor; what a member says of itself when it joins also holds the address of its views (ADR 0007).

The group's coordinator keeps that text with the member, so whoever asks it who owns a partition learns where to ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from yarl import URL

_ADDRESS = "views"
_NO_URL = URL("http://streamapp.invalid/")


class Assignor(PartitionAssignor):
    """See the module. Partitions are assigned as Faust does it."""

    @property
    def _url(self) -> URL:
        # Faust's own entry must not change: a static member that comes back gets the assignment it had, with what it
        # said before, and Faust refuses one that names another URL. The address may have changed.
        return _NO_URL

    def metadata(self, topics: Iterable[str]) -> Any:
        """What this member says of itself; Faust's other members read past the address."""
        made = super().metadata(topics)
        said = {**msgspec.json.decode(made.user_data), _ADDRESS: self.app.views_address}
        return ConsumerProtocolMemberMetadata(made.version, made.subscription, msgspec.json.encode(said))


def address_in(said: bytes) -> str | None:
    """The address a member gave, or None: it has no views, or is no member of ours."""
    try:
        found = msgspec.json.decode(said)
    except msgspec.DecodeError:
        return None
    address = found.get(_ADDRESS) if isinstance(found, dict) else None
    return address if isinstance(address, str) and address.startswith("http://") else None
