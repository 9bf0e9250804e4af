"""What the broker's own files say about transactions: who committed or aborted, when. Read from the segments on disk.

A record batch (magic 2): offset 8, length 4, leader epoch 4, magic 1, crc 4, attributes 2, last delta 4, base time 8,
max time 8, producer id 8, epoch 2, sequence 4, count 4, records. In a control batch the record's key is version and
type: 0 abort, 1 commit.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HEADER = struct.Struct(">qiibIhiqqqhii")
_CONTROL, _TRANSACTIONAL = 0x20, 0x10


class Marker(NamedTuple):
    """The end of a producer's transaction in one partition, or (kind "data") a batch of it."""

    partition: str
    producer_id: int
    epoch: int
    kind: str
    time_ms: int


def markers(log_directory: Path) -> Iterator[Marker]:
    """Every transactional batch of the shot's topics.

    The broker is at work meanwhile: what it deletes under our eyes belongs to a topic of an earlier shot.
    """
    for partition in sorted(log_directory.iterdir()):
        name = partition.name
        if partition.is_dir() and not name.startswith("__") and not name.endswith("-delete"):
            with contextlib.suppress(FileNotFoundError):
                for segment in sorted(partition.glob("*.log")):
                    yield from _of(segment, name)


def _of(segment: Path, name: str) -> Iterator[Marker]:
    content = segment.read_bytes()
    at = 0
    while at + _HEADER.size <= len(content):
        head = _HEADER.unpack_from(content, at)
        length, attributes, time_ms, producer_id, epoch = head[1], head[5], head[8], head[9], head[10]
        if at + 12 + length > len(content):
            return
        if attributes & _CONTROL:
            # length, attributes, time delta, offset delta, key length: one byte each; then version and type.
            kind = "commit" if content[at + _HEADER.size + 8] == 1 else "abort"
            yield Marker(name, producer_id, epoch, kind, time_ms)
        elif attributes & _TRANSACTIONAL:
            yield Marker(name, producer_id, epoch, "data", time_ms)
        at += 12 + length
