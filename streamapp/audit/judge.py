"""The judge: records in, violations and a verdict out. Pure; knows the contract and nothing of the service.

Feed it every record of each topic, topic by topic in the order of `Topics.all`, each partition in offset order, then
ask for the `judgement`. Transfers, payments and clicks are judged apart from each other: they share no record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from streamapp.audit.clicks import Clicks
from streamapp.audit.payments import Payments
from streamapp.audit.record import Record
from streamapp.audit.report import CHECKS, Findings, Report, Verdict
from streamapp.audit.terms import Terms
from streamapp.audit.transfers import Transfers
from streamapp.audit.windows import Windows


class Judge:
    """Judges one history. Use it once."""

    def __init__(self, terms: Terms, findings: Findings | None = None) -> None:
        self._terms = terms
        self._findings = findings or Findings()
        self._transfers = Transfers(terms, self._findings)
        self._payments = Payments(terms, self._findings)
        self._clicks = Clicks(terms, self._findings)
        self._parts = (self._transfers, self._payments, self._clicks)
        self._readers = {topic: reader for part in self._parts for topic, reader in part.readers.items()}
        self._position = -1  # in `Topics.all`

    def read(self, records: Iterable[Record]) -> None:
        """Take in records, topic after topic in the order of `Topics.all`."""
        order = self._terms.topics.all
        for record in records:
            if self._position < 0 or order[self._position] != record.topic:
                self._turn_to(order.index(record.topic))
            self._readers[record.topic](record)

    def _turn_to(self, position: int) -> None:
        if position < self._position:
            raise ValueError("topics are read in the order of Topics.all, each once")
        self._position = position

    def judgement(self) -> Report:
        """What is missing, the sums, and the verdict."""
        for part in self._parts:
            part.end()
        verdict, reasons = self._verdict()
        report = Report(verdict, reasons, self._findings, self._transfers.summary, self._terms.expect)
        report.accounts, report.totals = self._transfers.accounts, dict(self._transfers.totals)
        report.payments, report.clicks = self._payments.summary, self._clicks.summary
        report.totals_by_window, report.spend_by_window = self._payments.totals.summary, self._clicks.spend.summary
        report.notes = list(self._notes())
        return report

    def _notes(self) -> Iterator[str]:
        """What a reader of the verdict should know beside it."""
        tallies = {
            "transfer": self._transfers.summary,
            "payment": self._payments.summary,
            "click": self._clicks.summary,
        }
        for name, tally in tallies.items():
            if repeats := tally.duplicates + tally.conflicts:
                how = f"each is a {name} of its own" if self._terms.expect == "each" else "they must have no effect"
                yield (
                    f"{name.capitalize()}s that repeat an event id under the same key: {repeats:,}; {how} "
                    f"(--expect {self._terms.expect})."
                )
        if open_cases := sum(part.unsettled for part in self._parts):
            yield f"Dead letters of records the contract neither allows nor forbids: {open_cases:,}."
        if oversized := sum(part.oversized for part in self._parts):
            yield f"Dead letters of good records that lead to what is too large for a topic: {oversized:,}."
        for name, tally in tallies.items():
            if tally.in_flight:
                what = f"{name.capitalize()}s younger than this audit's cut, which may still miss effects"
                yield f"{what}: {tally.in_flight:,}."
        for windows, log in self._logs():
            if windows.summary.open:
                yield (
                    f"Windows of {log} without a final: {windows.summary.open:,}. They are closed by younger events, "
                    "or, with WINDOW_IDLE, by silence."
                )

    def _logs(self) -> Iterator[tuple[Windows, str]]:
        topics = self._terms.topics
        return iter(((self._payments.totals, topics.payment_totals), (self._clicks.spend, topics.ad_spend)))

    def _verdict(self) -> tuple[Verdict, list[str]]:
        """FAIL for any violation; else UNKNOWN if nothing, or less than there was, has been examined; else PASS."""
        found = self._findings
        if found.named:
            return Verdict.FAIL, [f"{name}: {count:,}" for name, count in found.named.most_common()]
        if not any(found.examined[name] for name in ("transfers", "payments", "clicks", "dead letters")):
            return Verdict.UNKNOWN, ["nothing was examined: there is no transfer, payment or click to judge."]
        if self._transfers.compacted:
            name = self._terms.topics.account_balances
            return Verdict.UNKNOWN, [
                f"{name} has been compacted: upserts are gone, and with them the order of entries."
            ]
        if gone := [log for windows, log in self._logs() if windows.compacted]:
            return Verdict.UNKNOWN, [f"{name} has been compacted: revisions are gone." for name in gone]
        if blind := self._blind():
            return Verdict.UNKNOWN, blind
        return Verdict.PASS, []

    def _blind(self) -> list[str]:
        """The checks that examined less than there was."""
        least: Counter[str] = Counter()
        for part in self._parts:
            least["dead letters"] += part.summary.dead_letters
            for name, count in part.least():
                least[name] += count
        examined = self._findings.examined
        return [
            f"the check of {name} examined {examined[name]:,} of {least[name]:,}."
            for name in CHECKS
            if examined[name] < least[name]
        ]
