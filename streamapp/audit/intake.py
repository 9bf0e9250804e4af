"""An input of the service: which of its records are events, which repeat another, which are bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from streamapp.audit import values
from streamapp.audit.dead_letters import DeadLetters, Letter
from streamapp.audit.partitioner import partition_of
from streamapp.audit.record import Record, packed
from streamapp.audit.report import Findings, Tally
from streamapp.audit.terms import Terms

_PLACEMENT = frozenset({"KeyMismatch", "WrongPartition"})
_AHEAD = "occurred_at is more than an hour ahead"
#: What a letter says of an event whose outputs or rows are too large for their topics.
_SIZE_KINDS = frozenset({"RecordTooLarge", "OutputRefused"})
#: Names of fields, numbers, times and suffixes of whatever follows from one event.
_FIXED_BYTES = 1024


class Fields(Protocol):
    """What every event declares."""

    @property
    def event_id(self) -> str: ...
    @property
    def occurred_us(self) -> int: ...


F = TypeVar("F", bound=Fields)


class Opened(Protocol):
    """What every unit has."""

    timestamp_ms: int
    twin: bool
    dead: bool

    def same_content(self, fields: Any, /) -> bool: ...


U = TypeVar("U", bound=Opened)


@dataclass(frozen=True, slots=True)
class Form(Generic[F]):
    """What a good record of an input is: its declared fields, how it is read, and whose text is the key.

    `leads_to`: the topics that may be written because of one. `is_open`: whether the contract leaves open what becomes
    of a readable record with these fields.
    """

    read: Callable[[bytes | None], F]
    owner_of: Callable[[F], str]
    leads_to: tuple[str, ...]
    is_open: Callable[[F], bool] = lambda fields: False


class Intake(Generic[F, U]):
    """Reads an input into units; what is no unit must be a repeat or a dead letter.

    `last_of`: the youngest unit with this event id and owner; `open_unit`: a new one (position, append time, fields).
    """

    def __init__(
        self,
        form: Form[F],
        terms: Terms,
        findings: Findings,
        letters: DeadLetters,
        tally: Tally,
        last_of: Callable[[str, str], U | None],
        open_unit: Callable[[int, int, F], U],
    ) -> None:
        self._form = form
        self._terms = terms
        self._findings = findings
        self._letters = letters
        self._tally = tally
        self._last_of = last_of
        self._open_unit = open_unit
        self.oversized = 0  # good records that lead to what no topic takes
        self.unsettled = 0  # records of which the contract does not say whether they are good

    def take(self, record: Record) -> tuple[F | None, U | None]:
        """The fields of one record and its new unit; None for fields that are to be heard of nowhere."""
        at = packed(record.partition, record.offset)
        counted = self._findings.within(record.timestamp_ms)
        letters = self._letters.take(at)
        self._tally.records_in += counted
        self._tally.dead_letters += counted and bool(letters)
        try:
            fields = self._form.read(record.value)
        except values.Malformed as exc:
            self._letters.expect(record, letters, str(exc))
            return None, None
        owner = self._form.owner_of(fields)
        if faults := self._faults(record, fields, owner):
            kinds = faults if faults <= _PLACEMENT else frozenset()
            self._letters.expect(record, letters, " and ".join(sorted(faults)), kinds)
            return None if _AHEAD in faults else fields, None
        if letters and letters[0].kind in _SIZE_KINDS and not self._fits(fields, owner):
            self.oversized += 1
            self._letters.expect(record, letters, "what it leads to is too large", _SIZE_KINDS)
            return fields, None
        if letters and self._undecided(fields):
            self._letters.expect(record, letters, "the contract leaves it open")
            return fields, None
        earlier = self._last_of(fields.event_id, owner)
        if self._repeats(record, fields, earlier, letters):
            return fields, None
        return fields, self._open(record, at, fields, earlier, letters)

    def _faults(self, record: Record, fields: F, owner: str) -> frozenset[str]:
        """What makes a readable event a bad record."""
        found = set()
        if record.key != owner.encode(errors="surrogatepass"):
            found.add("KeyMismatch")
        if record.key is not None and record.partition != partition_of(
            record.key, self._terms.partitions[record.topic]
        ):
            found.add("WrongPartition")
        if fields.occurred_us > record.timestamp_ms * 1000 + values.MAX_AHEAD_US:
            found.add(_AHEAD)
        return frozenset(found)

    def _fits(self, fields: F, owner: str) -> bool:
        """Whether all that the event leads to must be taken by its topic; of the sizes an upper bound is known."""
        texts = [field for field in fields if isinstance(field, str)]  # type: ignore[attr-defined]
        # Each text may be there twice, once as part of an id, and in the key; JSON may write it in ASCII.
        size = 2 * sum(len(json.dumps(text)) for text in texts) + len(json.dumps(owner)) + _FIXED_BYTES
        return all(self._terms.fits(topic, size) for topic in self._form.leads_to)

    def _undecided(self, fields: F) -> bool:
        """Whether the contract leaves open if this record is good; it was dead-lettered, so it is bad."""
        if not self._form.is_open(fields):
            return False
        self.unsettled += 1
        return True

    def _repeats(self, record: Record, fields: F, earlier: U | None, letters: list[Letter]) -> bool:
        """Whether the inbox has seen this event id of this owner; judges the letter it then must or must not have."""
        if earlier is None or earlier.dead:
            return False
        counted, same = self._findings.within(record.timestamp_ms), earlier.same_content(fields)
        self._tally.duplicates += counted and same
        self._tally.conflicts += counted and not same
        age_ms = record.timestamp_ms - earlier.timestamp_ms
        if self._terms.expect == "each" or age_ms > self._terms.rules.inbox_retention_ms:
            return False
        if same:
            self._letters.forbid(record, letters)
        else:
            why = f"{fields.event_id} came before with other content"
            self._letters.expect(record, letters, why, frozenset({"EventIdConflict"}))
        return True

    def _open(self, record: Record, at: int, fields: F, earlier: U | None, letters: list[Letter]) -> U:
        unit = self._open_unit(at, record.timestamp_ms, fields)
        if earlier is not None:
            unit.twin = earlier.twin = True
        if letters:
            unit.dead = True
            self._letters.forbid(record, letters)
        return unit
