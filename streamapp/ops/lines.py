"""Lines of a file or a pipe, one at a time, in bounded memory, without ever being stuck in a read."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from typing import NamedTuple

_CHUNK_BYTES = 1 << 18
_IDLE_S = 0.1


class InputLine(NamedTuple):
    """A line without its end (LF or CRLF). `content` is None if the line is longer than allowed."""

    number: int
    content: bytes | None


def read_lines(descriptor: int, limit_bytes: int) -> Iterator[InputLine | None]:
    """The lines of an open file, counted from 1; None whenever a pipe had nothing to give for a tenth of a second.

    A line longer than `limit_bytes` is passed over without being kept. Blank lines count but are not given.
    The last line needs no end.
    """
    number, rest, skipping = 1, b"", False
    while True:
        if not select.select([descriptor], [], [], _IDLE_S)[0]:
            yield None
            continue
        chunk = os.read(descriptor, _CHUNK_BYTES)
        if not chunk:
            break
        *ended, rest_of_chunk = chunk.split(b"\n")
        for piece in ended:
            line = None if skipping else _ended(rest + piece, limit_bytes)
            if line is None or line.strip():
                yield InputLine(number, line)
            number, rest, skipping = number + 1, b"", False
        rest += rest_of_chunk
        # The CR of a CRLF may still be at the end, hence one byte more.
        if skipping or len(rest) > limit_bytes + 1:
            rest, skipping = b"", True
    if skipping or rest.strip():
        yield InputLine(number, None if skipping else _ended(rest, limit_bytes))


def _ended(line: bytes, limit_bytes: int) -> bytes | None:
    line = line.removesuffix(b"\r")
    return line if len(line) <= limit_bytes else None
