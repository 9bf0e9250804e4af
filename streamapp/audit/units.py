"""The units of payments, deliveries and clicks, and the effects that are found for them.

A unit is one event that has to have an outcome. Each of its effects is a slot that holds the position of what was
found; the record's event id says whose it is, and what it must say follows from the unit alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from streamapp.audit import values
from streamapp.audit.dead_letters import shown
from streamapp.audit.partitioner import partition_of
from streamapp.audit.record import NOWHERE, Record, packed, place
from streamapp.audit.report import Findings
from streamapp.audit.terms import Terms


class Unit:
    """One event. `fields` are as it declared them."""

    __slots__ = ("at", "dead", "fields", "timestamp_ms", "twin")
    #: The slots of its effects, each with the topic's name in `Topics`.
    EFFECTS: dict[str, str] = {}  # noqa: RUF012 - a constant of each class

    def __init__(self, at: int, timestamp_ms: int, fields: Any) -> None:
        self.at = at
        self.timestamp_ms = timestamp_ms
        self.fields = fields
        self.dead = False  # dead-lettered although good
        self.twin = False  # another unit has this owner and event id
        for slot in self.EFFECTS:
            setattr(self, slot, NOWHERE)

    def same_content(self, fields: Any, /) -> bool:
        """Whether the declared fields are equal, times as instants."""
        return bool(self.fields == fields)

    @property
    def found(self) -> list[str]:
        """The effects that were found."""
        return [slot for slot in self.EFFECTS if getattr(self, slot) != NOWHERE]


U = TypeVar("U", bound=Unit)


class Units(Generic[U]):
    """Every unit of one input, by its event id. `owner_of`: the field whose text is the key."""

    def __init__(self, topic: str, kind: type[U], owner_of: Callable[[Any], str], terms: Terms) -> None:
        self.topic = topic
        self._kind = kind
        self._owner_of = owner_of
        self._topics = terms.topics
        self._settled = terms.cut.settled
        self._units: dict[str, U | list[U]] = {}  # nearly every id has one unit: no list for it
        self._names: dict[str, str] = {}  # one text object a name, not one an event

    def __iter__(self) -> Iterator[U]:
        for entry in self._units.values():
            if isinstance(entry, list):
                yield from entry
            else:
                yield entry

    def open(self, at: int, timestamp_ms: int, fields: Any) -> U:
        """A new unit for this event."""
        once = self._names.setdefault
        kept = (once(field, field) if type(field) is str and len(field) < 24 else field for field in fields[1:])
        unit = self._kind(at, timestamp_ms, type(fields)(fields[0], *kept))
        entry = self._units.setdefault(fields.event_id, unit)
        if isinstance(entry, list):
            entry.append(unit)
        elif entry is not unit:
            self._units[fields.event_id] = [entry, unit]
        return unit

    def of(self, event_id: str) -> list[U]:
        """Every unit with that event id, oldest first within a partition."""
        entry = self._units.get(event_id)
        if entry is None:
            return []
        return entry if isinstance(entry, list) else [entry]

    def last_of(self, event_id: str, owner: str) -> U | None:
        """The youngest unit with that event id and owner."""
        return next((unit for unit in reversed(self.of(event_id)) if self._owner_of(unit.fields) == owner), None)

    def settled(self, unit: U) -> bool:
        """Whether all its effects are due."""
        return self._settled(self.topic, unit.at)

    def story(self, unit: U) -> tuple[str, ...]:
        """Where the event and everything found for it are."""
        lines = [f"{place(self.topic, unit.at)}  {' '.join(str(field) for field in unit.fields[:-1])}"]
        lines += [
            f"{place(getattr(self._topics, topic), getattr(unit, slot))}  {slot}"
            for slot, topic in unit.EFFECTS.items()
            if getattr(unit, slot) != NOWHERE
        ]
        return tuple(lines)


class Effects(Generic[U]):
    """The records of one topic that the units of an input lead to.

    `expected`: the record a unit leads to, or None where it must not lead to any; `suffix` is what its event id has
    behind the unit's; `names` are the fields' names.
    """

    def __init__(
        self,
        topic: str,
        check: str,
        slot: str,
        suffix: str,
        read: Callable[[bytes | None], Any],
        owner: str,
        expected: Callable[[U], Any],
        units: Units[U],
        terms: Terms,
        findings: Findings,
    ) -> None:
        self._check = check
        self._slot = slot
        self._suffix = suffix
        self._read = read
        self._owner = owner
        self._expected = expected
        self._units = units
        self._partitions = terms.partitions[topic]
        self._findings = findings

    def take(self, record: Record) -> U | None:
        """One record of the topic; its unit, if it has one and is the first of its kind."""
        try:
            fields = self._read(record.value)
        except values.Malformed as exc:
            self._findings.violate(self._check, "malformed", record.timestamp_ms, str(exc), shown(record))
            return None
        return self.claim(record, fields)

    def claim(self, record: Record, fields: Any) -> U | None:
        """As `take`, of a record that is read already."""
        units = self._units.of(fields.event_id.removesuffix(self._suffix))
        unit = self._best(units, fields)
        moment = record.timestamp_ms if unit is None else unit.timestamp_ms
        placed(self._findings, record, getattr(fields, self._owner), self._partitions, moment)
        self._findings.examine(self._check, moment)
        if unit is None:
            self._without_unit(record, fields, units)
            return None
        setattr(unit, self._slot, packed(record.partition, record.offset))
        expected = self._expected(unit)
        if expected is None:
            text = f"{self._slot} of an event that must not have one"
            self._accuse("phantom", unit, text, shown(record))
        elif fields != expected:
            self._differs(unit, record, fields, expected)
        return unit

    def _best(self, units: list[U], fields: Any) -> U | None:
        """The unit without this effect that fits best; the first of equals."""
        free = [unit for unit in units if getattr(unit, self._slot) == NOWHERE]
        if len(free) < 2:
            return free[0] if free else None

        def fit(unit: U) -> int:
            expected = self._expected(unit)
            return -1 if expected is None else sum(map(bool, map(_equal, fields, expected)))

        return max(free, key=fit)

    def _without_unit(self, record: Record, fields: Any, units: list[U]) -> None:
        """It happened before, or has no cause at all."""
        if units:
            story = self._units.story(units[0])
            text = "happened once more than it was sent"
            self._findings.violate(self._check, "duplicate", units[0].timestamp_ms, text, shown(record), *story)
        else:
            text = f"no record of {self._units.topic} explains {fields.event_id!r}"
            self._findings.violate(self._check, "phantom", record.timestamp_ms, text, shown(record))

    def _differs(self, unit: U, record: Record, fields: Any, expected: Any) -> None:
        name, text = difference(fields, expected)
        self._accuse(name, unit, text, shown(record))

    def _accuse(self, name: str, unit: U, text: str, *more: str) -> None:
        story = self._units.story(unit)
        self._findings.violate(self._check, name, unit.timestamp_ms, text, *more, *story)


def _equal(one: object, other: object) -> bool:
    return one == other


def difference(fields: Any, expected: Any) -> tuple[str, str]:
    """The violation's name and text for a record that is not as it must be."""
    text = ", ".join(
        f"{name} {given!r} instead of {right!r}"
        for name, given, right in zip(fields._fields, fields, expected, strict=True)
        if given != right
    )
    reasons = getattr(fields, "reason", None), getattr(expected, "reason", None)
    if reasons[0] == reasons[1]:
        return "changed", text
    if reasons[1] is None:
        return "unjustified-refusal", text
    return ("unjustified-posting" if reasons[0] is None else "wrong-reason"), text


def placed(findings: Findings, record: Record, name: str, partitions: int, moment: int | None) -> bool:
    """Whether a record of the service is under the key and in the partition it must be."""
    findings.examine("placement", moment)
    key = name.encode(errors="surrogatepass")
    partition = partition_of(key, partitions)
    if record.key == key and record.partition == partition:
        return True
    text = f"key {record.key!r}, partition {record.partition}; must be {key!r}, partition {partition}"
    findings.violate("placement", "misplaced", moment, text, shown(record))
    return False
