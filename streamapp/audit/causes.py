"""The input of the service: which records are transfers, which repeat another, which are bad."""

from __future__ import annotations

from streamapp.audit import values
from streamapp.audit.books import Account, Books
from streamapp.audit.dead_letters import DeadLetters, Letter
from streamapp.audit.partitioner import murmur2
from streamapp.audit.record import Record, packed
from streamapp.audit.report import Findings, Summary
from streamapp.audit.terms import Terms

_PLACEMENT = frozenset({"KeyMismatch", "WrongPartition"})


class Causes:
    """Reads `transfer` into units; what is no unit must be a repeat or a dead letter."""

    def __init__(self, terms: Terms, books: Books, findings: Findings, summary: Summary, letters: DeadLetters) -> None:
        self._terms = terms
        self._books = books
        self._findings = findings
        self._summary = summary
        self._letters = letters
        self.unsettled = 0  # records of which the contract does not say whether they are good

    def transfer(self, record: Record) -> None:
        """One record of the input."""
        at = packed(record.partition, record.offset)
        counted = self._findings.within(record.timestamp_ms)
        letters = self._letters.take(at)
        self._summary.records_in += counted
        self._summary.dead_letters += counted and bool(letters)
        try:
            fields = values.transfer(record.value)
        except values.Malformed as exc:
            self._letters.expect(record, letters, str(exc))
            return
        if faults := self._faults(record, fields):
            kinds = faults if faults <= _PLACEMENT else frozenset()
            self._letters.expect(record, letters, " and ".join(sorted(faults)), kinds)
        elif letters and self._undecided(record):
            self._letters.expect(record, letters, "the contract leaves it open")
        elif not self._repeats(record, fields, letters):
            self._open(record, at, fields, letters)

    def _faults(self, record: Record, fields: values.Transfer) -> frozenset[str]:
        """What makes a readable transfer a bad record."""
        found = set()
        account = self._books.account(fields.from_account)
        if record.key != account.key:
            found.add("KeyMismatch")
        if record.key is not None and record.partition != home(record, account, self._terms):
            found.add("WrongPartition")
        if fields.occurred_us > record.timestamp_ms * 1000 + values.MAX_AHEAD_US:
            found.add("occurred_at is more than an hour ahead")
        return frozenset(found)

    def _undecided(self, record: Record) -> bool:
        """Whether the contract leaves open if this record is good; it was dead-lettered, so it is bad."""
        if record.value is None or values.unsettled(record.value) is None:
            return False
        self.unsettled += 1
        return True

    def _repeats(self, record: Record, fields: values.Transfer, letters: list[Letter]) -> bool:
        """Whether the inbox has seen this event id of this sender; judges the letter it then must or must not have."""
        earlier = self._books.last_of(fields.event_id, fields.from_account)
        if earlier is None or earlier.dead:
            return False
        counted, same = self._findings.within(record.timestamp_ms), earlier.same_content(fields)
        self._summary.duplicates += counted and same
        self._summary.conflicts += counted and not same
        age_ms = record.timestamp_ms - earlier.timestamp_ms
        if self._terms.expect == "each" or age_ms > self._terms.inbox_retention_ms:
            return False
        if same:
            self._letters.forbid(record, letters)
        else:
            why = f"{fields.event_id} came before with other content"
            self._letters.expect(record, letters, why, frozenset({"EventIdConflict"}))
        return True

    def _open(self, record: Record, at: int, fields: values.Transfer, letters: list[Letter]) -> None:
        earlier = self._books.last_of(fields.event_id, fields.from_account)
        unit = self._books.open(at, record.timestamp_ms, fields)
        if earlier is not None:
            unit.twin = earlier.twin = True
        if letters:
            unit.dead = True
            self._letters.forbid(record, letters)


def home(record: Record, account: Account, terms: Terms) -> int:
    """The partition the record's key belongs to; nearly always the key is the account's, whose hash is known."""
    hashed = account.hash if record.key == account.key else murmur2(record.key or b"") & 0x7FFFFFFF
    return hashed % terms.partitions[record.topic]
