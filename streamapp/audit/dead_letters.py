"""Dead letters: each belongs to exactly one record of its source, and says so truthfully."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from streamapp.audit import values
from streamapp.audit.record import Record, packed, place
from streamapp.audit.report import Findings
from streamapp.audit.terms import Terms

_MAX_MESSAGE_BYTES = 1024
#: What says that a letter was cut because it is too large for its topic, and what was there.
_SIZE, _HASH = "dlt-value-bytes", "dlt-value-sha256"


class Letter(NamedTuple):
    """A dead letter, as small as it can be compared: a poison storm must not fill the memory."""

    record: Record  # without its value
    digest: bytes | None
    headers: dict[str, str]
    #: Bytes of all its headers, those of its record among them.
    header_bytes: int

    @property
    def kind(self) -> str:
        """The name of its error, without the module."""
        return self.headers.get("dlt-exception-fqcn", "").rpartition(".")[2]


def digest(value: bytes | None) -> bytes | None:
    """What stands for the bytes of a value when they are compared."""
    return None if value is None else hashlib.blake2b(value, digest_size=16).digest()


class DeadLetters:
    """The letters of one dead-letter topic, by the position of the record they are about."""

    def __init__(self, source: str, terms: Terms, findings: Findings) -> None:
        self._source = source
        self._terms = terms
        self._findings = findings
        self._waiting: dict[int, list[Letter]] = {}
        self._nameless: list[Letter] = []  # do not say which record of the source they are about

    def add(self, record: Record) -> None:
        """Keep a letter until its record is read."""
        headers = {name: (raw or b"").decode(errors="replace") for name, raw in record.headers}
        size = sum(len(name.encode()) + len(raw or b"") for name, raw in record.headers)
        letter = Letter(record._replace(value=None, headers=()), digest(record.value), headers, size)
        try:
            if headers["dlt-original-topic"] != self._source:
                raise ValueError
            position = packed(int(headers["dlt-original-partition"]), int(headers["dlt-original-offset"]))
        except (KeyError, ValueError):
            self._nameless.append(letter)
        else:
            self._waiting.setdefault(position, []).append(letter)

    def take(self, position: int) -> list[Letter]:
        """The letters about the record at this position."""
        return self._waiting.pop(position, []) if self._waiting else []

    def expect(self, record: Record, letters: list[Letter], why: str, kinds: frozenset[str] = frozenset()) -> None:
        """This record must have exactly one true letter; `kinds` are the names its fault may have, empty: any."""
        found, moment = self._findings, record.timestamp_ms
        if not letters:
            if self._terms.cut.settled(self._source, packed(record.partition, record.offset)):
                found.examine("dead letters", moment)
                found.violate("dead letters", "dlq-missing", moment, f"no dead letter, although {why}", shown(record))
            return
        found.examine("dead letters", moment)
        places = [letter_place(letter) for letter in letters]
        if len(letters) > 1:
            text = f"{len(letters)} dead letters of one record"
            found.violate("dead letters", "duplicate", moment, text, shown(record), *places)
        if differences := self.differences(letters[0], record, kinds):
            found.violate("dead letters", "dlq-altered", moment, "; ".join(differences), shown(record), places[0])

    def forbid(self, record: Record, letters: list[Letter]) -> None:
        """This record is good: any letter about it is a violation."""
        for letter in letters:
            kind, message = (letter.headers.get(f"dlt-exception-{name}", "?") for name in ("fqcn", "message"))
            text = f"a good record, dead-lettered as {kind}: {message}"
            self._findings.examine("dead letters", record.timestamp_ms)
            self._findings.violate(
                "dead letters", "dlq-unjustified", record.timestamp_ms, text, shown(record), letter_place(letter)
            )

    def end(self) -> None:
        """The source is read: what is left is about records that do not exist."""
        for letter in [letter for letters in self._waiting.values() for letter in letters] + self._nameless:
            moment = letter.record.timestamp_ms
            about = {name: text for name, text in letter.headers.items() if name.startswith("dlt-original-")}
            self._findings.examine("dead letters", moment)
            self._findings.violate(
                "dead letters", "phantom", moment, f"a dead letter of no record: {about}", letter_place(letter)
            )

    def differences(self, letter: Letter, source: Record, kinds: frozenset[str]) -> list[str]:
        """Where the letter is untrue to its record."""
        found = []
        cut = letter.digest is None and _SIZE in letter.headers
        if letter.record.key != source.key and not (cut and letter.record.key is None):
            found.append(f"key {letter.record.key!r} instead of {source.key!r}")
        # A topic of letters that somebody else has made may have fewer partitions than its source.
        partition = source.partition % self._terms.partitions.get(letter.record.topic, source.partition + 1)
        if letter.record.partition != partition:
            found.append(f"partition {letter.record.partition} instead of {partition}")
        if cut:
            found += self._untrue_cut(letter, source)
        elif letter.digest != digest(source.value):
            found.append("other bytes")
        return found + self._untrue_headers(letter.headers, source, kinds)

    def _untrue_cut(self, letter: Letter, source: Record) -> list[str]:
        """What is wrong with a letter that has size and hash instead of its record's value, and maybe no key."""
        value, found = source.value or b"", []
        if letter.headers[_SIZE] != str(len(value)):
            found.append(f"{_SIZE} {letter.headers[_SIZE]!r} instead of {len(value)}")
        if letter.headers.get(_HASH) != hashlib.sha256(value).hexdigest():
            found.append(f"{_HASH} is not that of the value")
        size = len(source.key or b"") + len(value) + letter.header_bytes
        # Without a key the headers may have been left out as well, and then nobody knows how large they were.
        if letter.record.key is not None and self._terms.letter_fits(letter.record.topic, size):
            found.append(f"no value, although its {size:,} bytes fit the topic")
        return found

    def _untrue_headers(self, headers: dict[str, str], source: Record, kinds: frozenset[str]) -> list[str]:
        found = []
        if not _is_time(headers.get("dlt-original-timestamp", ""), source.timestamp_ms):
            found.append(
                f"dlt-original-timestamp {headers.get('dlt-original-timestamp')!r} instead of {source.timestamp_ms}"
            )
        if headers.get("dlt-original-consumer-group") != self._terms.group:
            found.append(f"dlt-original-consumer-group {headers.get('dlt-original-consumer-group')!r}")
        kind = headers.get("dlt-exception-fqcn", "").rpartition(".")[2]
        if not kind or (kinds and kind not in kinds):
            found.append(
                f"dlt-exception-fqcn {kind!r}" + (f" instead of {' or '.join(sorted(kinds))}" if kinds else "")
            )
        if len(headers.get("dlt-exception-message", "x" * 2000).encode()) > _MAX_MESSAGE_BYTES:
            found.append("dlt-exception-message is missing or longer than 1 kB")
        if not headers.get("dlt-attempts", "").isdigit():
            found.append(f"dlt-attempts {headers.get('dlt-attempts')!r} is no number")
        return found


def _is_time(text: str, timestamp_ms: int) -> bool:
    """Whether the header is that time, as milliseconds or as RFC 3339: the contract does not say which."""
    if text == str(timestamp_ms):
        return True
    try:
        return values.microseconds(text) // 1000 == timestamp_ms
    except values.Malformed:
        return False


def letter_place(letter: Letter) -> str:
    """Where a letter is."""
    return place(letter.record.topic, packed(letter.record.partition, letter.record.offset))


def shown(record: Record, most: int = 200) -> str:
    """A record as one line of a story: where it is, its key, and the beginning of its value."""
    text = "null" if record.value is None else record.value[:most].decode(errors="backslashreplace")
    more = "" if record.value is None or len(record.value) <= most else f"... ({len(record.value):,} bytes)"
    key = "null" if record.key is None else record.key.decode(errors="backslashreplace")
    return f"{place(record.topic, packed(record.partition, record.offset))}  key {key}: {text}{more}"
