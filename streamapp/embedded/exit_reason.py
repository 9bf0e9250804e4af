"""Why a server ended, from its exit code and the last lines of its log. No I/O."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from streamapp.errors import StoreError, Unavailable

#: How many lines from the end of a log are looked through; a dying JVM's stack traces are long.
LINES = 100
_QUOTED = 15

#: What a line of the log says, and what that means. The first that is found counts.
_SIGNS = (
    ("No space left on device", "the disk is full"),
    ("OutOfMemoryError", "its heap is full; give it more with --heap-mib"),
    ("insufficient memory for the Java Runtime", "the machine has no memory left for it"),
    ("Address already in use", "its port was taken by another program"),
    ("Permission denied", "a file or directory may not be written"),
    ("Read-only file system", "the file system is read-only"),
    ("A fatal error has been detected by the Java Runtime", "the JVM crashed"),
)

#: What the servers write last when they were asked to end: Kafka, PostgreSQL.
_FAREWELLS = ("App info kafka.server", "database system is shut down")


def cause(exit_code: int | None, log: Sequence[str]) -> str:
    """The reason in a few words. `exit_code` is None for a process that another one started, -N for signal N."""
    for sign, meaning in _SIGNS:
        if any(sign in line for line in log):
            return meaning
    if exit_code is not None and exit_code < 0:
        return f"it was ended by {signal.Signals(-exit_code).name}"
    if any(farewell in line for line in log[-3:] for farewell in _FAREWELLS):
        return "it was asked to end, and did"
    if exit_code is None:
        return "it ended without a word in its log: killed (kill -9), or the machine ran out of memory or went down"
    return f"it ended with exit code {exit_code}"


class PortTaken(Unavailable):
    """The server did not come up because another program took its port after it was chosen."""


def failure(text: str, log: Sequence[str]) -> StoreError | Unavailable:
    """The error for a server that did not come up, with the end of its log (of which at least `LINES` are given)."""
    quoted = "\n".join(f"  | {line[:200]}" for line in log[-_QUOTED:])
    message = f"{text}\nIts log ends:\n{quoted}" if quoted else text
    if any("No space left on device" in line for line in log):
        return StoreError(message)
    if any("Address already in use" in line for line in log):
        return PortTaken(message)
    return Unavailable(message)
