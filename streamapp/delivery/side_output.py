"""A record that is set aside: its own bytes in another topic, with headers that say where it was and why."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from streamapp.types import Headers


class Source(NamedTuple):
    """A consumed record and its place. `timestamp` is the append time in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class SideOutput(NamedTuple):
    """What to write; the partition is the source's, so that order within it is kept."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def set_aside(source: Source, kind: str, facts: Iterable[tuple[str, str]], *, size_max: int) -> SideOutput:
    """`source` for the topic `<topic>-<kind>`, with its place and `facts` in headers that begin with `<kind>-`.

    Where it is larger than `size_max` bytes it has the value's size and hash instead of the value.
    """
    place = (
        ("original-topic", source.topic),
        ("original-partition", str(source.partition)),
        ("original-offset", str(source.offset)),
        ("original-timestamp", str(source.timestamp)),
    )
    ours = tuple((f"{kind}-{name}", text.encode()) for name, text in (*place, *facts))
    whole = SideOutput(f"{source.topic}-{kind}", source.partition, source.key, source.value, source.headers + ours)
    if _size(whole) <= size_max:
        return whole
    marks = (
        (f"{kind}-value-bytes", str(len(source.value or b"")).encode()),
        (f"{kind}-value-sha256", hashlib.sha256(source.value or b"").hexdigest().encode()),
    )
    shortened = whole._replace(value=None, headers=whole.headers + marks)
    if _size(shortened) <= size_max:
        return shortened
    # The record's own headers or key alone are too large: keep only what says where it is.
    return shortened._replace(key=None, headers=ours + marks)


def _size(record: SideOutput) -> int:
    headers = sum(
        len(name.encode("utf-8", "backslashreplace")) + len(value or b"") + 16 for name, value in record.headers
    )
    return len(record.key or b"") + len(record.value or b"") + headers + 128
