"""Streaming on Apache Kafka for events that must count exactly once, under the Faust API people like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamapp import native

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.driver.streams.inbox import inbox
    from streamapp.driver.tables.after_commit import after_commit

native.choose()

__all__ = ["App", "after_commit", "inbox"]

#: Loaded when first asked for: Faust is slow to import, and not every command needs it.
_HOMES = {
    "App": "streamapp.app",
    "after_commit": "streamapp.driver.tables.after_commit",
    "inbox": "streamapp.driver.streams.inbox",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not at the top: whatever this module imports, every command imports.
    from importlib import import_module

    found = globals()[name] = getattr(import_module(home), name)
    return found
