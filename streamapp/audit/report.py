"""The auditor's result: a verdict, what was examined, and every violation by name with its smallest story."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Verdict(StrEnum):
    """PASS needs every check to have examined what there was; whoever cannot tell says UNKNOWN, never PASS."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"


#: Each check with what it asks; the report lists them in this order.
CHECKS = {
    "transfers": "one outcome each, and all of it",
    "legs": "each one leg of one transfer, unchanged",
    "order": "an account's effects in its input's order",
    "upserts": "each leg applied once, running balances",
    "cover": "no account below zero, @ accounts excepted",
    "rejections": "right for the balance and entries seen",
    "dead letters": "each bad record, unchanged; no good one",
    "placement": "the right key in the right partition",
    "money": "every currency adds up to zero",
    "payments": "one outcome each, and all of it",
    "results": "each one result of one payment, by the rules",
    "deliveries": "one for each completed payment, started once",
    "totals": "each window's sum, revisions 1, 2, ..., one final",
    "clicks": "charged and paid, both or neither",
    "charges": "each one charge of one click, unchanged",
    "revenues": "each one revenue of one click, unchanged",
    "ad-spend": "each window's sum, revisions 1, 2, ..., one final",
}

#: Each violation with its meaning.
VIOLATIONS = {
    "lost": "an event without any outcome",
    "duplicate": "an effect that happened more than once",
    "phantom": "an effect without a cause",
    "torn-unit": "an event of which only a part happened",
    "changed": "a record that differs from what it came from",
    "malformed": "a record of the service that breaks the schema",
    "misplaced": "a record of the service under a wrong key or in a wrong partition",
    "refused-and-posted": "a transfer both rejected and posted",
    "unjustified-posting": "a posted transfer or completed payment that had to be refused",
    "unjustified-refusal": "a refused transfer or payment that had to be accepted",
    "wrong-reason": "a refusal with another reason than the precedence of reasons gives",
    "overdraft": "an account went below zero",
    "missing-upsert": "a leg that was never applied to account-balances",
    "order-gap": "entries of an account do not count 1, 2, 3, ...",
    "order-inversion": "effects of one account in another order than their causes",
    "table-not-fold": "balances differ from the sum of the applied legs",
    "money-created": "balances of a currency add up to more than zero",
    "money-destroyed": "balances of a currency add up to less than zero",
    "dlq-missing": "a bad record, or a conflict, that is not in the dead-letter topic",
    "dlq-unjustified": "a good record in the dead-letter topic",
    "dlq-altered": "a dead letter that differs from its record, or says something wrong about it",
    "wrong-total": "a window whose count and amount are not those of its events",
    "revision-gap": "revisions of a window do not count 1, 2, 3, ...",
    "final-missing": "a window without a final, although the watermark has passed it",
    "final-early": "a final before the watermark passed the window",
    "final-changed": "a window that changed after its final",
    "late-missing": "an event that counts nowhere and is no late record",
    "late-unjustified": "a late record of an event that was on time",
    "late-altered": "a late record that does not say why",
}


class Story(NamedTuple):
    """One violation: its lines, the first what is wrong, the others the records involved."""

    check: str
    name: str
    lines: tuple[str, ...]


@dataclass(slots=True)
class Findings:
    """What the judge writes down while it reads. Counts everything, keeps `stories_kept` stories of each name.

    `since_ms` (inclusive) and `until_ms` (exclusive) bound what is judged, by append time.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    stories_kept: int = 20
    examined: Counter[str] = field(default_factory=Counter)
    violated: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    stories: dict[str, list[Story]] = field(default_factory=dict)

    def within(self, timestamp_ms: int | None) -> bool:
        """Whether what was appended then is judged; None belongs to no event in particular and always is."""
        if timestamp_ms is None or (self.since_ms is None and self.until_ms is None):
            return True
        begun = self.since_ms is None or timestamp_ms >= self.since_ms
        return begun and (self.until_ms is None or timestamp_ms < self.until_ms)

    def examine(self, check: str, timestamp_ms: int | None) -> None:
        """One item was looked at by this check."""
        if self.within(timestamp_ms):
            self.examined[check] += 1

    def violate(self, check: str, name: str, timestamp_ms: int | None, *lines: str) -> None:
        """One violation, if it is in the range: what is wrong, then the records involved."""
        if not self.within(timestamp_ms):
            return
        self.violated[check] += 1
        self.named[name] += 1
        kept = self.stories.setdefault(name, [])
        if len(kept) < self.stories_kept:
            kept.append(Story(check, name, lines))


@dataclass(slots=True)
class Tally:
    """What came in by one input, in the range."""

    records_in: int = 0  # good and bad
    duplicates: int = 0  # repeats: same key, event id and content
    conflicts: int = 0  # same key and event id, other content
    dead_letters: int = 0  # conflicts among them
    in_flight: int = 0  # younger than the cut: seen, but not yet due

    def as_json(self) -> dict[str, int]:
        return {
            "in": self.records_in,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "dead_letters": self.dead_letters,
            "in_flight": self.in_flight,
        }


@dataclass(slots=True)
class Summary(Tally):
    """What happened to the transfers that were judged; amounts in minor units."""

    posted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # by reason

    def as_json(self) -> dict[str, Any]:
        return {**Tally.as_json(self), "posted": self.posted, "rejected": dict(self.rejected)}


@dataclass(slots=True)
class PaymentSummary(Tally):
    """What happened to the payments that were judged, and to the deliveries they started."""

    completed: int = 0
    declined: Counter[str] = field(default_factory=Counter)  # by reason
    started: int = 0  # deliveries
    deliveries: Tally = field(default_factory=Tally)  # records of `delivery`

    def as_json(self) -> dict[str, Any]:
        return {
            **Tally.as_json(self),
            "completed": self.completed,
            "declined": dict(self.declined),
            "deliveries_started": self.started,
        }


@dataclass(slots=True)
class ClickSummary(Tally):
    """What happened to the clicks that were judged."""

    clicks: int = 0  # charged and paid
    amount: int = 0  # minor units: what was charged, and paid

    def as_json(self) -> dict[str, Any]:
        return {**Tally.as_json(self), "clicks": self.clicks, "amount": self.amount}


@dataclass(slots=True)
class WindowSummary:
    """The windows of one log; always of all of it."""

    windows: int = 0  # with at least one upsert
    final: int = 0
    amount: int = 0  # the sum of the finals, minor units
    late: int = 0  # late records

    @property
    def open(self) -> int:
        """Windows whose final is still to come."""
        return self.windows - self.final

    def as_json(self) -> dict[str, int]:
        return {"windows": self.windows, "final": self.final, "amount": self.amount, "late": self.late}


@dataclass(slots=True)
class Report:
    """One audit. `verdict` is a value: nobody has to read the text to know it."""

    verdict: Verdict
    reasons: list[str]  # why UNKNOWN, or what FAIL found, in sentences
    findings: Findings
    summary: Summary
    expect: str
    payments: PaymentSummary = field(default_factory=PaymentSummary)
    clicks: ClickSummary = field(default_factory=ClickSummary)
    totals_by_window: WindowSummary = field(default_factory=WindowSummary)
    spend_by_window: WindowSummary = field(default_factory=WindowSummary)
    records_read: dict[str, int] = field(default_factory=dict)  # by topic
    notes: list[str] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)  # the sum of all balances, by currency
    accounts: dict[str, dict[str, int]] = field(default_factory=dict)  # every balance, by account and currency
    seconds: float = 0.0

    def balance(self, account: str, currency: str) -> int:
        """The balance of one account; 0 for one that never had an entry."""
        return self.accounts.get(account, {}).get(currency, 0)

    @classmethod
    def unknown(cls, *reasons: str, expect: str = "once") -> Report:
        """Nothing could be judged, and why."""
        return cls(Verdict.UNKNOWN, list(reasons), Findings(), Summary(), expect)

    def as_json(self) -> dict[str, Any]:
        """The report as one JSON object; single accounts are left out, there may be millions."""
        found = self.findings
        return {
            "verdict": str(self.verdict),
            "reasons": self.reasons,
            "notes": self.notes,
            "expect": self.expect,
            "since_ms": found.since_ms,
            "until_ms": found.until_ms,
            "transfers": self.summary.as_json(),
            "payments": self.payments.as_json(),
            "clicks": self.clicks.as_json(),
            "payment-totals": self.totals_by_window.as_json(),
            "ad-spend": self.spend_by_window.as_json(),
            "accounts": len(self.accounts),
            "totals": self.totals,
            "checks": [
                {"name": name, "asks": asks, "examined": found.examined[name], "violations": found.violated[name]}
                for name, asks in CHECKS.items()
            ],
            "violations": [
                {"name": name, "meaning": VIOLATIONS[name], "count": count,
                 "stories": [list(story.lines) for story in found.stories[name]]}
                for name, count in found.named.most_common()
            ],
            "records_read": self.records_read,
            "seconds": round(self.seconds, 3),
        }  # fmt: skip
