"""Dead letters: the record's own bytes in `<topic>-dlt`, with headers that say where it was and what was wrong.

The header names follow spring-kafka's dead-letter headers, which operators' tools already read.
"""

from __future__ import annotations

from streamapp.delivery.side_output import SideOutput, Source, set_aside
from streamapp.errors import kind_of, text_of

SUFFIX = "-dlt"
MESSAGE_BYTES_MAX = 1024


def dead_letter(source: Source, error: BaseException, *, group: str, attempts: int, size_max: int) -> SideOutput:
    """The dead letter of `source`; where it is larger than `size_max` bytes, position and hash instead of the value.

    Never raises: `error` may be anything that somebody's code has raised.
    """
    facts = (
        ("original-consumer-group", group),
        ("exception-fqcn", _clipped(kind_of(error))),
        ("exception-message", _clipped(text_of(error))),
        ("attempts", str(attempts)),
    )
    return set_aside(source, SUFFIX[1:], facts, size_max=size_max)


def _clipped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace")[:MESSAGE_BYTES_MAX].decode("utf-8", "ignore")
