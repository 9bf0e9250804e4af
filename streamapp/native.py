"""Which modules are compiled, and how: those of the path that every event takes (ADR 0013).

Cython compiles them from their own `.py`, with the types of the `.pxd` beside it, so the Python is the twin. All of
them are used compiled or none: without a C compiler, when a source is newer than what was compiled, or with
STREAMAPP_PURE=1, the Python itself runs. It is slower, and nothing else.

    python -m streamapp.compilation   compiles them where they are; `make setup` does it
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

MODULES = (
    "streamapp.arming",
    "streamapp.codec",
    "streamapp.delivery.inbox",
    "streamapp.driver.delivery",
    "streamapp.driver.engine",
    "streamapp.driver.gate",
    "streamapp.driver.hand",
    "streamapp.driver.inbox",
    "streamapp.driver.input",
    "streamapp.driver.iteration",
    "streamapp.driver.mailbox",
    "streamapp.driver.merging",
    "streamapp.driver.outlet",
    "streamapp.driver.pace",
    "streamapp.driver.reader",
    "streamapp.driver.record",
    "streamapp.driver.route",
    "streamapp.driver.schema",
    "streamapp.driver.task",
    "streamapp.driver.topic",
    "streamapp.driver.unit",
    "streamapp.eos.batches",
    "streamapp.eos.filling",
    "streamapp.eos.partitioner",
    "streamapp.state.partition",
    "streamapp.state.rocks",
    "streamapp.state.unit",
)

#: The directory of the package.
ROOT = Path(__file__).parent
_SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]

#: Why the Python itself runs; None while the compiled modules do.
reason: str | None = None


class _Sources:
    """Finds the `.py` of a module where Python itself would take what is compiled."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, source(name)) if name in MODULES else None


def choose() -> None:
    """Decide, before any of the modules is imported, what runs in this process."""
    global reason
    reason = "STREAMAPP_PURE is set" if os.environ.get("STREAMAPP_PURE", "0") not in ("", "0") else unfit()
    if reason is not None:
        sys.meta_path.insert(0, _Sources)


def unfit() -> str | None:
    """Why what is compiled cannot be used."""
    for name in MODULES:
        types = source(name).with_suffix(".pxd")
        try:
            compiled_at = compiled(name).stat().st_mtime_ns
        except FileNotFoundError:
            return f"{name} is not compiled"
        if any(path.exists() and path.stat().st_mtime_ns > compiled_at for path in (source(name), types)):
            return f"{name} has changed since it was compiled"
    return None


def source(name: str) -> Path:
    """A module's Python."""
    return ROOT.joinpath(*name.split(".")[1:]).with_suffix(".py")


def compiled(name: str) -> Path:
    """Where a module's shared library is, or would be."""
    return source(name).with_suffix(_SUFFIX)
