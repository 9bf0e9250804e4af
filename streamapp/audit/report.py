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
}

#: Each violation with its meaning.
VIOLATIONS = {
    "lost": "a transfer without any outcome",
    "duplicate": "an effect that happened more than once",
    "phantom": "an effect without a cause",
    "torn-unit": "a transfer of which only a part happened",
    "changed": "a record that differs from what it came from",
    "malformed": "a record of the service that breaks the schema",
    "misplaced": "a record of the service under a wrong key or in a wrong partition",
    "refused-and-posted": "a transfer both rejected and posted",
    "unjustified-posting": "a posted transfer that had to be rejected",
    "unjustified-refusal": "a rejected transfer that had to be posted",
    "wrong-reason": "a rejection with another reason than the precedence of reasons gives",
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
        """Whether what was appended then is judged; None belongs to no transfer in particular and always is."""
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
class Summary:
    """What happened to the transfers that were judged; amounts in minor units."""

    records_in: int = 0  # transfers read, good and bad, in the range
    posted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # by reason
    duplicates: int = 0  # repeats in the input: same key, event id and content
    conflicts: int = 0  # same key and event id, other content
    dead_letters: int = 0  # transfers in the dead-letter topic, conflicts among them
    in_flight: int = 0  # younger than the cut: seen, but not yet due


@dataclass(slots=True)
class Report:
    """One audit. `verdict` is a value: nobody has to read the text to know it."""

    verdict: Verdict
    reasons: list[str]  # why UNKNOWN, or what FAIL found, in sentences
    findings: Findings
    summary: Summary
    expect: str
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
        found, summary = self.findings, self.summary
        return {
            "verdict": str(self.verdict),
            "reasons": self.reasons,
            "notes": self.notes,
            "expect": self.expect,
            "since_ms": found.since_ms,
            "until_ms": found.until_ms,
            "transfers": {
                "in": summary.records_in,
                "posted": summary.posted,
                "rejected": dict(summary.rejected),
                "duplicates": summary.duplicates,
                "conflicts": summary.conflicts,
                "dead_letters": summary.dead_letters,
                "in_flight": summary.in_flight,
            },
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
