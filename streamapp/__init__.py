"""Streaming on Apache Kafka for events that must count exactly once, under the Faust API people like."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamapp.app import App as App

#: Public name -> the module that has it. Loaded when asked for: most commands need no Faust.
_EXPORTS = {"App": "streamapp.app"}

__all__ = ["App"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
