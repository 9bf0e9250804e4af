"""A store's partitions with other methods: what a mutant does to them. The compiled class itself cannot be patched."""

from __future__ import annotations

from typing import Any

import pytest

from streamapp.state import directory, memory
from streamapp.state.partition import TablePartition


def plant_store(patch: pytest.MonkeyPatch, **methods: Any) -> None:
    """Let partitions that are opened from here on have these methods in place of their own."""
    planted = type("Planted", (TablePartition,), methods)
    for opener in (directory, memory):
        patch.setattr(opener, "TablePartition", planted)
