"""What an event wants done once it is committed: intents, their order, and how long to wait after a failure. Pure.

An intent is one row of a changelog-backed table, written in the transaction of its event:

    intent id -> [handler's name, payload, number]        topic-partition-offset-n -> JSON

It is run after that transaction and removed in a later one, so a crash between the two runs it again: at least once.
The id never changes and is never used twice; give it to whatever must not act twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from streamapp import finite

#: Name of the table that holds the intents of an app.
TABLE = "after-commit"

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0
_decode = msgspec.json.Decoder(tuple[str, Any, int]).decode


class Intent(NamedTuple):
    """One run of a handler that is owed. `number` counts the intents of a task: their order."""

    id: str
    handler: str
    payload: Any
    number: int


def intent_id(topic: str, partition: int, offset: int, n: int) -> str:
    """The id of the `n`-th intent of the event at that place; ids of one partition are in the order of their events."""
    return f"{topic}-{partition}-{offset:019d}-{n:04d}"


def pack(handler: str, payload: Any, number: int) -> bytes:
    """The row's value. `TypeError` when the payload is not JSON, `RecordError` where a number in it is not finite."""
    return finite.encode((handler, payload, number))


def unpack(key: bytes, value: bytes) -> Intent:
    """The intent of a row."""
    return Intent(key.decode(), *_decode(value))


def ordered(rows: Iterable[tuple[bytes, bytes | None]]) -> list[Intent]:
    """The intents of these rows in the order their events finished; removed ones (None) are left out."""
    intents = [unpack(key, value) for key, value in rows if value is not None]
    return sorted(intents, key=lambda intent: intent.number)


def pause_s(failures: int) -> float:
    """Seconds to wait after that many failures in a row: twice as long each time, half a minute at most."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20))
