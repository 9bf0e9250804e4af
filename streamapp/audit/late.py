"""Late records: what came when its window was closed, once each, as it came."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from streamapp.audit.dead_letters import shown
from streamapp.audit.partitioner import partition_of
from streamapp.audit.record import Record
from streamapp.audit.report import Findings

#: What a record that is too large for its late topic has instead of its value.
_HASH = "late-value-sha256"


def _digest(key: bytes | None, value_hash: bytes, *, keyless: bool = False) -> bytes:
    """What stands for key and value: a late record is known by its bytes alone. `keyless`: by those of its value."""
    text = value_hash if keyless else b"%b|%b" % (value_hash, key or b"")
    return hashlib.blake2b(text, digest_size=16).digest()


def _value_hash(record: Record) -> bytes:
    """The hash of a value in hexadecimals, or what a record without it says it is."""
    said = dict(record.headers).get(_HASH) if record.value is None else None
    return said or hashlib.sha256(record.value or b"").hexdigest().encode()


class LateRecords:
    """The records of one late topic, to be matched with the events they are copies of."""

    def __init__(self, check: str, partitions: int, findings: Findings, own: int | None = None) -> None:
        """`partitions`: those of the source; `own`: those of the late topic, if it has another number."""
        self._check = check
        self._partitions = partitions
        self._own = own or partitions
        self._findings = findings
        self._letters: dict[bytes, list[Record]] = {}
        self._claims: dict[int, bytes] = {}  # position of an event of these bytes -> digest

    def add(self, record: Record) -> None:
        """Keep a late record until its event is read."""
        self._findings.examine("placement", record.timestamp_ms)
        # Cut, and the record's own headers or key alone were too large.
        keyless = record.key is None and record.value is None and _HASH in dict(record.headers)
        if not keyless and (record.key is None or record.partition != self._place(record.key)):
            text = f"partition {record.partition} is not that of the key {record.key!r}"
            self._findings.violate("placement", "misplaced", record.timestamp_ms, text, shown(record))
        if not record.headers:
            text = "a late record that does not say which windows it is late for"
            self._findings.violate(self._check, "late-altered", record.timestamp_ms, text, shown(record))
        digest = _digest(record.key, _value_hash(record), keyless=keyless)
        self._letters.setdefault(digest, []).append(record._replace(value=None, headers=()))

    def _place(self, key: bytes) -> int:
        return partition_of(key, self._partitions) % self._own

    def __len__(self) -> int:
        return sum(map(len, self._letters.values()))

    def claim(self, record: Record, at: int) -> None:
        """The event at this position, which counts in windows, may be the one a late record is a copy of."""
        if not self._letters:
            return
        value_hash = _value_hash(record)
        for keyless in (False, True):
            if (digest := _digest(record.key, value_hash, keyless=keyless)) in self._letters:
                self._claims[at] = digest
                return

    def without(self, excluded: Mapping[int, None], allowed: Iterable[int]) -> Iterator[int]:
        """Judge the late records; the positions of `excluded` events that have none.

        `excluded` are in no window, or not in all of theirs, and need a late record; `allowed` may have one.
        """
        for at in (*excluded, *allowed):
            letters = self._letters.get(self._claims.get(at, b""), [])
            if letters:
                letters.pop()
                self._findings.examine(self._check, None)
            elif at in excluded:
                yield at

    def end(self) -> None:
        """All events that may have a late record have taken theirs: what is left has no reason."""
        claimed = set(self._claims.values())
        for digest, letters in self._letters.items():
            for letter in letters:
                name = "late-unjustified" if digest in claimed else "phantom"
                text = "late, and yet on time" if digest in claimed else "a late record of no event that counts"
                self._findings.violate(self._check, name, letter.timestamp_ms, text, shown(letter))
