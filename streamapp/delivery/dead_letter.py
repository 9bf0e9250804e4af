"""Dead letters: the record's own bytes in `<topic>-dlt`, with headers that say where it was and what was wrong.

The header names follow spring-kafka's dead-letter headers, which operators' tools already read.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from streamapp.errors import RecordError
from streamapp.types import Headers

SUFFIX = "-dlt"
MESSAGE_BYTES_MAX = 1024


class Source(NamedTuple):
    """A consumed record and its place. `timestamp` is the append time in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class DeadLetter(NamedTuple):
    """What to write; the partition is the source's, so that order within it is kept."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def dead_letter(source: Source, error: BaseException, *, group: str, attempts: int, size_max: int) -> DeadLetter:
    """The dead letter of `source`; where it is larger than `size_max` bytes, position and hash instead of the value."""
    kind = error.kind if isinstance(error, RecordError) else f"{type(error).__module__}.{type(error).__qualname__}"
    headers = source.headers + tuple(
        (name, text.encode())
        for name, text in (
            ("dlt-original-topic", source.topic),
            ("dlt-original-partition", str(source.partition)),
            ("dlt-original-offset", str(source.offset)),
            ("dlt-original-timestamp", str(source.timestamp)),
            ("dlt-original-consumer-group", group),
            ("dlt-exception-fqcn", kind),
            ("dlt-exception-message", _clipped(str(error))),
            ("dlt-attempts", str(attempts)),
        )
    )
    letter = DeadLetter(source.topic + SUFFIX, source.partition, source.key, source.value, headers)
    if _size(letter) <= size_max:
        return letter
    marks = (
        ("dlt-value-bytes", str(len(source.value or b"")).encode()),
        ("dlt-value-sha256", hashlib.sha256(source.value or b"").hexdigest().encode()),
    )
    shortened = letter._replace(value=None, headers=headers + marks)
    if _size(shortened) <= size_max:
        return shortened
    # The record's own headers or key alone are too large: keep only what says where it is.
    return shortened._replace(key=None, headers=headers[len(source.headers) :] + marks)


def _clipped(text: str) -> str:
    return text.encode()[:MESSAGE_BYTES_MAX].decode("utf-8", "ignore")


def _size(letter: DeadLetter) -> int:
    headers = sum(len(name) + len(value) + 16 for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + headers + 128
