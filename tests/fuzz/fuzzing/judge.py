"""What must be true of a worker's outputs, whatever it was fed: each record is processed or a dead letter, and once."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fuzzing.records import PROCESSED, Fuzzed

#: Agents by the topic they read.
AGENTS = {
    "typed-inbox": ("typed_inbox",),
    "typed": ("typed",),
    "untyped-inbox": ("untyped_inbox",),
    "untyped": ("untyped",),
    "legacy": ("legacy",),
    "windowed": ("windowed",),
    "batched": ("batched",),
    "raw": ("raw",),
    "both": ("first_of_both", "second_of_both"),
}
#: The field with the event's id, of the topics whose agent has an inbox.
EVENT_ID = {"typed-inbox": "order_id", "untyped-inbox": "id", "batched": "order_id"}
#: Tables that add the field `amount` of `seen` up, by the agent that writes them.
SUMS = {"typed_inbox": "spent", "typed": "totals", "legacy": "points"}
_SHOWN_MAX = 20

Place = tuple[str, int, int]


class Seen(NamedTuple):
    """An agent says that it has processed the record at a place."""

    agent: str
    place: Place
    row: str | None
    amount: int


class Outcome(NamedTuple):
    """What a run left behind."""

    #: In the order of each partition.
    fed: Iterable[tuple[Place, Fuzzed]]
    seen: list[Seen]
    #: Of each dead letter the place of its record, and why it is one.
    letters: list[tuple[Place, str]]
    #: Tables by name, row -> value, as their changelogs have them (`rows_of`).
    tables: Mapping[str, Mapping[str, int]]
    #: Additions that the windows' last upserts show, and records that were late for one.
    in_windows: int
    late: int


def seen_of(raw: bytes) -> Seen:
    """From a value of the topic `seen`. By Python's own JSON: a row may be named by half a surrogate pair."""
    value = json.loads(raw)
    agent, *place = value["place"]
    return Seen(agent, tuple(place), json.dumps(value.get("row")), value.get("amount", 0))  # type: ignore[arg-type]


def rows_of(records: Iterable[tuple[int, bytes | None, bytes | None]]) -> dict[str, int]:
    """A table of sums from the records of its changelog (partition, key, value), by the JSON of its keys.

    The same row may be in several partitions, where events have another key than the row: they are added up.
    """
    rows: dict[tuple[int, str], int] = {}
    for partition, key, value in records:
        rows[partition, json.dumps(json.loads(key or b""))] = json.loads(value) if value is not None else 0
    sums: Counter[str] = Counter()
    for (_, row), value in rows.items():
        sums[row] += value
    return sums


def in_windows(upserts: Iterable[tuple[Any, Mapping[str, Any]]]) -> int:
    """How many records the windows count, by each window's last revision."""
    newest: dict[Any, tuple[int, int]] = {}
    for key, value in upserts:
        newest[key] = max(newest.get(key, (0, 0)), (value["revision"], value["count"]))
    return sum(count for _, count in newest.values())


def problems(outcome: Outcome) -> list[str]:
    """What is wrong; empty: nothing."""
    found = [*_each_once(outcome), *_sums(outcome), *_windows(outcome)]
    more = [f"and {len(found) - _SHOWN_MAX} more"] if len(found) > _SHOWN_MAX else []
    return [*found[:_SHOWN_MAX], *more]


def _each_once(outcome: Outcome) -> Iterator[str]:
    by_place: dict[Place, list[str]] = defaultdict(list)
    for one in outcome.seen:
        by_place[one.place].append(one.agent)
    letters: dict[Place, list[str]] = defaultdict(list)
    for place, why in outcome.letters:
        letters[place].append(why)
    accepted: set[Any] = set()
    for place, record in outcome.fed:
        seen, given_up = by_place.pop(place, []), letters.pop(place, [])
        mark = _mark(place, record)
        problem = _problem(record, seen, given_up, is_repeat=mark is not None and mark in accepted)
        if problem:
            yield f"{place}: {problem}: {record}"
        if seen and mark is not None:
            accepted.add(mark)
    for place in [*by_place, *letters]:
        yield f"{place}: nothing was fed there"


def _problem(record: Fuzzed, seen: list[str], given_up: list[str], *, is_repeat: bool) -> str | None:
    """What is wrong with what became of one record."""
    agents = AGENTS[record.topic]
    if len(given_up) > 1 or len(set(seen)) < len(seen):
        return f"dead letters {given_up}, processed by {seen}"
    if given_up and seen:
        return f"a dead letter {given_up}, and processed by {seen}"
    if seen and is_repeat:
        return "a repeat, and processed again"
    if not given_up and not is_repeat and set(seen) != set(agents):
        return f"no dead letter, no repeat, and processed by {seen} of {agents}"
    if record.expected == PROCESSED and not seen:
        return f"it must be processed, and was not: {given_up or 'a repeat'}"
    return None


def _mark(place: Place, record: Fuzzed) -> Any:
    """Agent, key and event id, as the inbox tells repeats; None where there is no inbox or no id."""
    field = EVENT_ID.get(record.topic)
    if field is None or record.value is None:
        return None
    try:
        value = json.loads(record.value)
    except (ValueError, RecursionError):
        return None
    return (record.topic, place[1], record.key, json.dumps(value.get(field))) if isinstance(value, dict) else None


def _sums(outcome: Outcome) -> Iterator[str]:
    for agent, table in SUMS.items():
        sums: Counter[Any] = Counter()
        for one in outcome.seen:
            if one.agent == agent:
                sums[one.row] += one.amount
        rows = outcome.tables[table]
        for row in sums.keys() | rows.keys():
            # A Faust record takes fractions for integers, and their sum depends on the order of its parts.
            if sums[row] != rows.get(row, 0) and not math.isclose(sums[row], rows.get(row, 0), rel_tol=1e-9):
                yield f"table {table}, row {row!r}: {rows.get(row)}, and its events add up to {sums[row]}"


def _windows(outcome: Outcome) -> Iterator[str]:
    processed = sum(one.agent == "windowed" for one in outcome.seen)
    if processed != outcome.in_windows + outcome.late:
        yield f"{processed} records for windows: {outcome.in_windows} are in windows, {outcome.late} were late"
