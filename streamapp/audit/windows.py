"""Windows by event time, recomputed from the input and held against the log of upserts and the late records.

The events of a window stand in one partition, and a window takes them in that order until it is closed. So each
upsert must be the sum of the first `count` of them, and those behind the final's count must be late records. When a
window is closed follows from the watermark: the highest event time before, in the partition. Records that were
dead-lettered although they can be read may have moved it or not; the auditor lets both pass.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from streamapp.audit import events, values
from streamapp.audit.dead_letters import shown
from streamapp.audit.late import LateRecords
from streamapp.audit.record import NOWHERE, Record, packed, place
from streamapp.audit.report import Findings, WindowSummary
from streamapp.audit.terms import Terms
from streamapp.audit.units import placed

_NEVER = -(1 << 62)
_MOST = (1 << 63) - 1


@dataclass(slots=True)
class Watermark:
    """The highest event time of a partition, microseconds."""

    sure: int = _NEVER  # of events that were processed
    most: int = _NEVER  # of everything that can be read
    settled: int = _NEVER  # of events that are old enough to have had their effects


@dataclass(slots=True)
class Window:
    """The events of one window in their order, and the upserts so far."""

    partition: int
    end_us: int
    ats: array[int] = field(default_factory=lambda: array("q"))  # positions
    sums: array[int] = field(default_factory=lambda: array("q"))  # of the amounts so far
    on_time: int = -1  # how many of the events came before it may have been closed; -1: all
    revision: int = 0
    count: int = 0
    final: bool = False
    last: int = NOWHERE  # position of its last upsert

    @property
    def least(self) -> int:
        """How many of the events must count."""
        return len(self.ats) if self.on_time < 0 else self.on_time


class Windows:
    """The windows of one log of upserts. `owner`: the field of an upsert that names the key's first part."""

    def __init__(
        self, check: str, source: str, log: str, late: str, owner: str, sizes_us: tuple[int, int], terms: Terms,
        findings: Findings,
    ) -> None:  # fmt: skip
        self._check = check
        self._source = source
        self._log = log
        self._owner = owner
        self._size_us, self._step_us = sizes_us
        self._terms = terms
        self._grace_us = terms.rules.grace_us
        self._findings = findings
        self.late = LateRecords(check, terms.partitions[source], findings, terms.partitions[late])
        self._watermarks: dict[int, Watermark] = {}
        self._windows: dict[tuple[str, int], Window] = {}
        self._excluded: dict[int, None] = {}  # positions of events that must have a late record
        self.compacted = 0
        self.summary = WindowSummary()

    # -- the input, in its order -----------------------------------------------------------------------------------

    def seen(self, record: Record, occurred_us: int, at: int, *, sure: bool) -> None:
        """The partition has seen this time; not `sure`: only if dead letters move the watermark."""
        mark = self._watermarks.setdefault(record.partition, Watermark())
        mark.most = max(mark.most, occurred_us)
        if sure:
            mark.sure = max(mark.sure, occurred_us)
            if self._terms.cut.settled(self._source, at):
                mark.settled = max(mark.settled, occurred_us)

    def add(self, record: Record, name: str, occurred_us: int, amount: int, at: int) -> None:
        """An event that counts; call `seen` for it, too, before or after."""
        mark = self._watermarks.setdefault(record.partition, Watermark())
        self.late.claim(record, at)
        for start in self._starts(occurred_us):
            end = start + self._size_us
            if mark.sure >= end + self._grace_us:
                self._excluded[at] = None
                continue
            window = self._windows.get((name, start))
            if window is None:
                window = self._windows[name, start] = Window(record.partition, end)
            if window.on_time < 0 and mark.most >= end + self._grace_us:
                window.on_time = len(window.ats)
            total = (window.sums[-1] if window.sums else 0) + amount
            if total <= _MOST:  # no record could hold more
                window.sums.append(total)
                window.ats.append(at)

    def is_open(self, name: str, occurred_us: int, amount: int) -> bool:
        """Whether the contract does not say if such an event can count: windows before 1970, sums beyond 64 bits."""
        if occurred_us < 0:
            return True
        found = (self._windows.get((name, start)) for start in self._starts(occurred_us))
        return any(window is not None and window.sums[-1:].tolist() > [_MOST - amount] for window in found)

    def _starts(self, occurred_us: int) -> range:
        first = ((occurred_us - self._size_us) // self._step_us + 1) * self._step_us
        return range(first, occurred_us + 1, self._step_us)

    # -- the log ---------------------------------------------------------------------------------------------------

    def upsert(self, record: Record) -> None:
        """One record of the log."""
        try:
            fields = events.total(record.value, self._owner)
        except values.Malformed as exc:
            self._findings.violate(self._check, "malformed", record.timestamp_ms, str(exc), shown(record))
            return
        self._findings.examine(self._check, None)
        placed(self._findings, record, f"{fields.name}|{fields.start}", self._terms.partitions[self._log], None)
        window = self._windows.get((fields.name, fields.start_us))
        if window is None:
            self._accuse("phantom", "a window that no event counts in", shown(record))
            return
        self._follow(record, fields, window)
        self._compare(record, fields, window)
        window.revision, window.count = fields.revision, max(window.count, min(fields.events, len(window.ats)))
        window.final = window.final or fields.final
        window.last = packed(record.partition, record.offset)

    def _follow(self, record: Record, fields: events.Total, window: Window) -> None:
        """The revision is one more than the last, and nothing comes after the final."""
        if window.final:
            text = "a second final" if fields.final else "an upsert after the final"
            self._accuse("final-changed", text, self._last(window), shown(record))
        elif fields.revision != window.revision + 1:
            if self._terms.may_be_compacted(self._log, record.timestamp_ms) and fields.revision > window.revision:
                self.compacted += 1
            else:
                text = f"revision {fields.revision} after {window.revision}"
                self._accuse("revision-gap", text, shown(record))

    def _compare(self, record: Record, fields: events.Total, window: Window) -> None:
        """Count and amount are those of the first events; the end is the start's."""
        if fields.end_us != window.end_us:
            self._accuse("changed", f"window_end is not {self._size_us / 1e6:g} s after the start", shown(record))
        if not 1 <= fields.events <= len(window.ats) or fields.events < window.count:
            text = f"counts {fields.events}; {len(window.ats)} events are in it, {window.count} were counted before"
            self._accuse("wrong-total", text, shown(record))
        elif fields.amount != window.sums[fields.events - 1]:
            text = f"amount {fields.amount}; the first {fields.events} events make {window.sums[fields.events - 1]}"
            self._accuse("wrong-total", text, shown(record))

    # -- judgement -------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Input and log are read: judge what is missing, and every late record."""
        self.summary.late = len(self.late)
        allowed: dict[int, None] = {}
        for (name, start), window in self._windows.items():
            self._close(name, start, window)
            if window.final:
                for at in window.ats[window.count :]:
                    self._excluded[at] = None
            elif not window.revision and (window.on_time >= 0 or self._terms.rules.closes_idle):
                # Closed, perhaps, before any of them came: then there is no upsert of it.
                allowed |= dict.fromkeys(window.ats[max(window.on_time, 0) :])
        for at in self.late.without(self._excluded, [at for at in allowed if at not in self._excluded]):
            if self._terms.cut.settled(self._source, at):
                where = place(self._source, at)
                self._accuse("late-missing", "came too late for a window, and is no late record", where)
        self.late.end()

    def _close(self, name: str, start: int, window: Window) -> None:
        """Whether a window is closed in time, with all that came in time."""
        self._findings.examine(self._check, None)
        mark, due_us = self._watermarks[window.partition], window.end_us + self._grace_us
        told = self._last(window)
        label = f"the window of {name} from {_text(start)}"
        self.summary.windows += window.revision > 0
        self.summary.final += window.final
        self.summary.amount += window.sums[window.count - 1] if window.final and window.count else 0
        if not window.final:
            if mark.settled >= due_us and window.least and self._terms.cut.settled(self._source, window.ats[0]):
                self._accuse("final-missing", f"the watermark has passed {label}, and it has no final", told)
            return
        idle = self._terms.rules.closes_idle
        if mark.most < due_us and not idle:
            known = "where workers have STREAMAPP_WINDOW_IDLE, the audit needs it, too"
            self._accuse("final-early", f"{label} was closed before the watermark passed it; {known}", told)
        missed = window.ats[window.count : window.least]
        if missed and not idle and self._terms.cut.settled(self._source, missed[0]):
            text = f"the final of {label} counts {window.count}, and {window.least} came in time"
            self._accuse("wrong-total", text, told, place(self._source, missed[0]))

    def _last(self, window: Window) -> str:
        """Where its last upsert is; its first event, if it has none."""
        if window.last != NOWHERE:
            return place(self._log, window.last)
        return place(self._source, window.ats[0] if window.ats else 0)

    def _accuse(self, name: str, text: str, *more: str) -> None:
        self._findings.violate(self._check, name, None, text, *more)


def _text(instant_us: int) -> str:
    return (datetime(1970, 1, 1) + timedelta(microseconds=instant_us)).isoformat() + "Z"
