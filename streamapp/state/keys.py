"""Ranges of byte keys. Keys are compared as unsigned bytes, which is the order of every iteration here."""

from __future__ import annotations


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key after every key that starts with `prefix`; None when there is none (`b""`, `b"\\xff"`...)."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def key_range(prefix: bytes = b"", start: bytes = b"", end: bytes | None = None) -> tuple[bytes, bytes | None]:
    """`(first, stop)` of the keys that start with `prefix` and lie in `[start, end)`; `stop` None is no bound."""
    stop = prefix_end(prefix)
    if end is not None and (stop is None or end < stop):
        stop = end
    return max(prefix, start), stop
