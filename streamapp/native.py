"""Which modules are compiled, and how: those of the path that every event takes (ADR 0014).

Cython compiles them from their own `.py`, with the types of the `.pxd` beside it, so the Python is the twin. All of
them are used compiled or none: without a C compiler, when a source is not the one that was compiled, or with
STREAMAPP_PURE=1, the Python itself runs. It is slower, and nothing else.

    python -m streamapp.compilation   compiles them where they are; `make setup` does it, and the build of a wheel
"""

from __future__ import annotations

import hashlib
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
    "streamapp.driver.streams.delivery",
    "streamapp.engine.engine",
    "streamapp.engine.gate",
    "streamapp.driver.streams.cursor",
    "streamapp.driver.streams.inbox",
    "streamapp.engine.input",
    "streamapp.driver.streams.iteration",
    "streamapp.driver.streams.mailbox",
    "streamapp.engine.open_transaction",
    "streamapp.driver.streams.sender",
    "streamapp.engine.commit_schedule",
    "streamapp.driver.streams.faust_reader",
    "streamapp.engine.reader",
    "streamapp.engine.record",
    "streamapp.driver.streams.dispatch",
    "streamapp.driver.streams.schema",
    "streamapp.engine.task",
    "streamapp.driver.streams.topic",
    "streamapp.engine.unit",
    "streamapp.eos.batches",
    "streamapp.eos.record_accumulator",
    "streamapp.eos.partitioner",
    "streamapp.state.partition",
    "streamapp.state.rocks",
    "streamapp.state.unit",
)

#: The directory of the package.
ROOT = Path(__file__).parent
_SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]

#: Lies beside the compiled modules: a line for each, its name and the digest of the sources it was compiled from.
_RECORD = "compiled.txt"

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
    recorded = _recorded()
    for name in MODULES:
        if not compiled(name).exists():
            return f"{name} is not compiled"
        if recorded.get(name) != digest(name):
            return f"{name} has changed since it was compiled"
    return None


def record() -> None:
    """Write down what the compiled modules were compiled from."""
    record_file().write_text("".join(f"{name} {digest(name)}\n" for name in MODULES))


def _recorded() -> dict[str, str]:
    try:
        lines = record_file().read_text().splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return {}
    return dict(line.split(" ", 1) for line in lines if " " in line)


def digest(name: str) -> str:
    """Of a module's sources: their content decides, since an installed file is as old as its installation."""
    sources = (source(name), source(name).with_suffix(".pxd"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources if path.exists())).hexdigest()


def record_file() -> Path:
    """Where the record is."""
    return ROOT / _RECORD


def source(name: str) -> Path:
    """A module's Python."""
    return ROOT.joinpath(*name.split(".")[1:]).with_suffix(".py")


def compiled(name: str) -> Path:
    """Where a module's shared library is, or would be."""
    return source(name).with_suffix(_SUFFIX)
