"""What is declared of a windowed table: its windows, what it adds up, and where it sends them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from mode.utils.times import want_seconds

from streamapp.driver.tables.upserts import WINDOW_FIELDS, Upserts
from streamapp.errors import ConfigurationError
from streamapp.windows.aggregates import Aggregate, Aggregates
from streamapp.windows.event_time import EventTime
from streamapp.windows.logic import WindowLogic
from streamapp.windows.windowers import Window, Windower


class WindowDeclaration:
    """The declaring half of `WindowedTable`. Every method returns the table, so that they follow one another."""

    def __init__(
        self, table: Any, kind: Windower, topics: tuple[str, ...], grace_ms: int, retention_ms: int, idle_s: float
    ) -> None:
        self.table = table
        self.app = table.app
        self.name: str = table.name
        self.topics = topics
        self.idle_s = idle_s
        self._kind = kind
        self._grace_ms = grace_ms
        self._retention_ms = retention_ms
        self._time = EventTime("occurred_at")
        self._aggregates: Aggregates | None = None
        self._upserts: Upserts | None = None
        self._every_ms: int | None = None
        self._tombstones = False
        self._book: WindowLogic | None = None

    def relative_to_field(self, field: Any) -> Self:
        """The field that says when a record happened, by name or as Faust's descriptor; by default `occurred_at`."""
        self._time = EventTime(field if isinstance(field, str) else field.field)
        return self

    def aggregate(self, **named: Aggregate) -> Self:
        """What is kept of the records of a window: `aggregate(count=Count(), amount=Sum("amount"))`."""
        self._aggregates, self._book = Aggregates(named), None
        return self

    def upsert_to(
        self,
        topic: Any,
        *,
        key_field: str | None = None,
        emit_every: Any = 0,
        final_only: bool = False,
        tombstones: bool = False,
    ) -> Self:
        """Send each window to `topic` when it changes, and once when it is closed.

        `emit_every`: at most one upsert of an open window in so many seconds of event time. `final_only`: nothing but
        the finals. `tombstones`: a null value when a closed window's retention is over. `key_field`: the field with
        the table's key; by default the record type's `KEY`, and `key` where there is no record type.
        """
        self._upserts = Upserts(self.app, topic, key_field)
        self._every_ms = None if final_only else milliseconds(emit_every, "emit_every")
        self._tombstones = tombstones
        self._book = None
        self.app.upsert_topics.add(self._upserts.topic)
        return self

    def problems(self, concurrent: Iterable[str]) -> Iterator[str]:
        """What of the declaration cannot be done; `concurrent`: topics whose events run several at a time."""
        where = f"Table {self.name}"
        if not self.topics:
            yield f'{where}: say whose events its windows are of: .tumbling(..., topic="payment")'
        for topic in sorted(set(self.topics) & set(concurrent)):
            yield (
                f"{where}: an agent of {topic} has concurrency above 1, so that its events are not seen in one order "
                "and two of them would close the same window. Leave concurrency out."
            )
        if self._upserts is not None:
            names = self._aggregates.names if self._aggregates is not None else ("value",)
            if taken := sorted({self._upserts.key_field, *WINDOW_FIELDS} & set(names)):
                yield f"{where}: upserts have a field {', '.join(taken)} already. Call the aggregate something else."
            yield from (f"{where}: {problem}" for problem in self._upserts.problems(names))

    def partitions(self, counts: Mapping[str, int]) -> int:
        """Partitions of its changelog, given those of the topics that agents read: as many as its topics have."""
        if unread := sorted(set(self.topics) - counts.keys()):
            raise ConfigurationError(f"Table {self.name}: no agent reads {', '.join(unread)}, whose windows it has.")
        found = {counts[topic] for topic in self.topics}
        if len(found) > 1:
            raise ConfigurationError(
                f"Table {self.name}: {', '.join(self.topics)} have different numbers of partitions, so that a window "
                "would lie in several. Give them one number, or each a table of its own."
            )
        return found.pop()

    @property
    def book(self) -> WindowLogic:
        """The rules of its windows, as declared."""
        if self._book is None:
            aggregates, table = self._aggregates, self.table
            codec = {"dump": table._dump, "load": table._load} if aggregates is None else {"dump": aggregates.dump}
            self._book = WindowLogic(
                self._kind,
                grace_ms=self._grace_ms,
                retention_ms=self._retention_ms,
                every_ms=self._every_ms,
                tombstones=self._tombstones,
                merge=None if aggregates is None else aggregates.merge,
                fits=self.check_final,
                **codec,
            )
        return self._book

    def check_final(self, key: bytes, window: Window, state: Any, size: int) -> None:
        """Raise `RecordError` for a state whose final could not be sent: the event that leads to it is at fault."""
        raise NotImplementedError

    # --- names of Faust that mean something broken

    def relative_to_now(self) -> Self:
        """Refused."""
        return self._refuse("relative_to_now() makes windows of when a worker happened to run, other ones in a replay")

    def relative_to_stream(self) -> Self:
        """Refused."""
        return self._refuse("relative_to_stream() makes windows of when records were appended, other ones in a replay")

    def relative_to(self, ts: Any) -> Self:
        """Refused."""
        return self._refuse("relative_to() with a function may read a clock")

    def _refuse(self, problem: str) -> Self:
        self.app.refuse(
            f"Table {self.name}: {problem}. Write .relative_to_field(name), with the field that says when it happened."
        )
        return self


def milliseconds(seconds: Any, what: str) -> int:
    """Seconds or a timedelta in whole milliseconds. `ConfigurationError` for parts of one, and for less than none."""
    given = want_seconds(seconds)
    found = round(given * 1000)
    if found < 0 or abs(found - given * 1000) > 1e-6:
        raise ConfigurationError(f"{what}={seconds!r}: times of windows are whole milliseconds, and not negative.")
    return found
