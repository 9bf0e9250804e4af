"""The judge of transfers, from the contract alone. What it keeps is one compact unit a transfer, one account a name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from streamapp.audit import values
from streamapp.audit.books import Account, Books, Effect, Seen, Unit
from streamapp.audit.dead_letters import DeadLetters, shown
from streamapp.audit.fold import Fold, reason_to_refuse
from streamapp.audit.intake import Form, Intake
from streamapp.audit.record import NOWHERE, Record, packed
from streamapp.audit.report import Findings, Summary
from streamapp.audit.terms import Terms


class Transfers:
    """Judges one history; `readers` take its records, topic after topic."""

    def __init__(self, terms: Terms, findings: Findings) -> None:
        self._terms = terms
        self._findings = findings
        self._books = Books()
        self.summary = Summary()
        topics = terms.topics
        self._fold = Fold(self._books, findings, terms)
        self._dead_transfers = DeadLetters(topics.transfer, terms, findings)
        self._dead_legs = DeadLetters(topics.balances, terms, findings)
        leads_to = (topics.balances, topics.account_balances, topics.rejected, *terms.changelogs("balances", "inbox"))
        self._intake = Intake(
            Form(values.transfer, lambda fields: fields.from_account, leads_to), terms, findings,
            self._dead_transfers, self.summary, self._books.last_of, self._books.open,
        )  # fmt: skip
        self._legs_total: Counter[str] = Counter()  # by currency

    @property
    def readers(self) -> Mapping[str, Callable[[Record], object]]:
        """Who reads which topic."""
        topics = self._terms.topics
        return {
            topics.transfer_dlt: self._dead_transfers.add,
            topics.balances_dlt: self._dead_legs.add,
            topics.transfer: self._intake.take,
            topics.rejected: self._refusal,
            topics.balances: self._leg,
            topics.account_balances: self._upsert,
        }

    @property
    def unsettled(self) -> int:
        """Dead letters of records the contract leaves open."""
        return self._intake.unsettled

    @property
    def oversized(self) -> int:
        """Dead letters of good records that lead to what no topic takes."""
        return self._intake.oversized

    @property
    def compacted(self) -> int:
        """Upserts that compaction has removed."""
        return self._fold.compacted

    # -- effects ---------------------------------------------------------------------------------------------------

    def _refusal(self, record: Record) -> None:
        at = packed(record.partition, record.offset)
        try:
            fields = values.refusal(record.value)
        except values.Malformed as exc:
            self._findings.violate("rejections", "malformed", record.timestamp_ms, str(exc), shown(record))
            return
        account = self._books.account(fields.from_account)
        unit = self._books.claim("refused", fields.transfer_id, fields.from_account, fields.to_account, fields.amount)
        self._placed(record, account, record.timestamp_ms if unit is None else unit.timestamp_ms)
        if unit is None:
            self._without_unit(record, "rejections", fields.transfer_id, account, debit=True)
            return
        unit.refused = at
        expected = _refusal_of(unit)
        if fields[:2] + fields[3:7] + fields[9:] != expected:
            self._changed("rejections", unit, record, fields[:2] + fields[3:7] + fields[9:], expected, _REFUSAL_NAMES)
        if self._terms.cut.settled(self._terms.topics.transfer, unit.at) and self._findings.within(unit.timestamp_ms):
            self.summary.rejected[fields.reason] += 1
        self._fold.refusal(unit.sender, Seen(fields.entries, unit.at, fields.balance, fields.reason, at, unit))

    def _leg(self, record: Record) -> None:
        at = packed(record.partition, record.offset)
        letters = self._dead_legs.take(at)
        try:
            fields = values.leg(record.value)
        except values.Malformed as exc:  # if it was to be a leg, the leg is missing and that is told
            self._dead_legs.expect(record, letters, str(exc))
            return
        self._legs_total[fields.currency] += fields.amount
        account, debit = self._books.account(fields.account), fields.leg == "debit"
        effect: Effect = "debit" if debit else "credit"
        amount = -fields.amount if debit else fields.amount
        unit = self._books.claim(
            effect, fields.transfer_id, fields.account, fields.counterparty, amount, fields.posting
        )
        if self._placed(record, account, record.timestamp_ms if unit is None else unit.timestamp_ms):
            self._dead_legs.forbid(record, letters)
        if unit is None:
            self._without_unit(record, "legs", fields.transfer_id, account, debit=debit)
            return
        self._findings.examine("legs", unit.timestamp_ms)
        if debit:
            unit.debit = at
            self._follow_debit(unit)
        else:
            unit.credit = at
        expected = _leg_of(unit, debit=debit, names_posting=fields.posting is not None)
        if fields != expected:
            self._changed("legs", unit, record, fields, expected, values.Leg._fields)

    def _follow_debit(self, unit: Unit) -> None:
        """Debits of one account stand in `balances` in the order of their transfers."""
        if unit.twin:
            return
        account = unit.sender
        if unit.at <= account.last_debit:
            self._accuse("order", "order-inversion", unit, f"debit of {account.name} behind that of a younger transfer")
        account.last_debit = unit.at

    def _upsert(self, record: Record) -> None:
        self._fold.begin()
        try:
            fields = values.upsert(record.value)
        except values.Malformed as exc:
            self._findings.violate("upserts", "malformed", record.timestamp_ms, str(exc), shown(record))
            return
        account = self._books.account(fields.account)
        self._placed(record, account, self._fold.upsert(record, fields, account))

    def _placed(self, record: Record, account: Account, moment: int) -> bool:
        """Whether a record of the service is under the key and in the partition of its account."""
        self._findings.examine("placement", moment)
        partition = account.hash % self._terms.partitions[record.topic]
        if record.key == account.key and record.partition == partition:
            return True
        text = f"key {record.key!r}, partition {record.partition}; must be {account.key!r}, partition {partition}"
        self._findings.violate("placement", "misplaced", moment, text, shown(record))
        return False

    def _without_unit(self, record: Record, check: str, transfer_id: str, account: Account, *, debit: bool) -> None:
        """An effect no transfer is left for: it happened before, or has no cause at all."""
        units = [u for u in self._books.of(transfer_id) if (u.sender if debit else u.receiver) is account]
        moment = units[0].timestamp_ms if units else record.timestamp_ms
        self._findings.examine(check, moment)
        if units:
            text, story = "happened once more than it was sent", units[0].story(self._terms.topics)
            self._findings.violate(check, "duplicate", moment, text, shown(record), *story)
        else:
            text = f"no transfer {transfer_id!r} explains it"
            self._findings.violate(check, "phantom", moment, text, shown(record))

    def _changed(
        self, check: str, unit: Unit, record: Record, fields: tuple[object, ...], expected: tuple[object, ...],
        names: tuple[str, ...],
    ) -> None:  # fmt: skip
        differences = [
            f"{name} {given!r} instead of {right!r}"
            for name, given, right in zip(names, fields, expected, strict=True)
            if given != right
        ]
        self._accuse(check, "changed", unit, ", ".join(differences), shown(record))

    def _accuse(self, check: str, name: str, unit: Unit, text: str, *more: str) -> None:
        self._findings.violate(check, name, unit.timestamp_ms, text, *more, *unit.story(self._terms.topics))

    # -- judgement -------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """What is missing, and the sums."""
        self._fold.begin()
        self._fold.end()
        self._dead_transfers.end()
        self._dead_legs.end()
        legs_on_their_way: Counter[str] = Counter()
        upserts_on_their_way: Counter[str] = Counter()
        for unit in self._books:
            settled = self._terms.cut.settled(self._terms.topics.transfer, unit.at)
            self._outcome(unit, settled=settled)
            self._applied(unit)
            if unit.posted and not settled:
                legs_on_their_way[unit.currency] += unit.missing(unit.debit == NOWHERE, unit.credit == NOWHERE)
                upserts_on_their_way[unit.currency] += unit.missing(not unit.debited, not unit.credited)
        self._money(self._terms.topics.balances, self._legs_total, legs_on_their_way)
        self._money(self._terms.topics.account_balances, self.totals, upserts_on_their_way)

    @property
    def accounts(self) -> dict[str, dict[str, int]]:
        """Every balance, by account and currency."""
        return {name: account.balances for name, account in self._books.accounts.items() if account.entries}

    @property
    def totals(self) -> Counter[str]:
        """The sum of all balances, by currency."""
        sums: Counter[str] = Counter()
        for balances in self.accounts.values():
            sums.update(balances)
        return sums

    def _outcome(self, unit: Unit, *, settled: bool) -> None:
        """Exactly one outcome, all of it; a young transfer may lack some, but not have too much."""
        refused, whole = unit.refused != NOWHERE, NOWHERE not in (unit.debit, unit.credit)
        if settled:
            self._findings.examine("transfers", unit.timestamp_ms)
        counted = self._findings.within(unit.timestamp_ms)
        self.summary.in_flight += counted and not settled
        self.summary.posted += counted and settled and whole
        if unit.dead:
            if refused or unit.posted:
                self._accuse("transfers", "torn-unit", unit, "dead-lettered, and yet it had an effect")
            return
        if refused and unit.posted:
            self._accuse("transfers", "refused-and-posted", unit, "both rejected and posted")
        elif unit.posted and not whole and settled:
            lacking = "debit" if unit.debit == NOWHERE else "credit"
            self._accuse("transfers", "torn-unit", unit, f"the {lacking} is missing in {self._terms.topics.balances}")
        elif not refused and not unit.posted and settled:
            self._accuse("transfers", "lost", unit, "neither posted nor rejected nor dead-lettered")
        if unit.posted and (unit.amount <= 0 or unit.sender is unit.receiver):
            self._accuse("transfers", "unjustified-posting", unit, f"posted in spite of {reason_to_refuse(unit, 0)}")

    def _applied(self, unit: Unit) -> None:
        """Every leg that is old enough has its upsert."""
        topics, settled = self._terms.topics, self._terms.cut.settled
        debit = unit.debit != NOWHERE and not unit.debited and settled(topics.transfer, unit.at)
        credit = unit.credit != NOWHERE and not unit.credited and settled(topics.balances, unit.credit)
        for leg, missing in (("debit", debit), ("credit", credit)):
            if missing and self._terms.may_be_compacted(topics.account_balances, unit.timestamp_ms):
                self._fold.compacted += 1
            elif missing:
                self._accuse("upserts", "missing-upsert", unit, f"no record of {topics.account_balances} "
                             f"applies its {leg}")  # fmt: skip

    def _money(self, topic: str, sums: Counter[str], on_their_way: Counter[str]) -> None:
        """Transfers move money: with what is on its way, every currency adds up to nothing."""
        for currency, total in sums.items():
            self._findings.examine("money", None)
            if excess := total + on_their_way[currency]:
                name = "money-created" if excess > 0 else "money-destroyed"
                self._findings.violate("money", name, None, f"{topic} adds up to {excess} {currency}, not to 0")

    def least(self) -> Iterator[tuple[str, int]]:
        """How much each check must have examined, for a PASS to mean something."""
        posted, rejected = self.summary.posted, self.summary.rejected.total()
        yield "transfers", posted + rejected
        yield "legs", 2 * posted
        yield "upserts", 2 * posted
        yield "order", 2 * posted
        yield "rejections", rejected
        yield "placement", 4 * posted + rejected
        yield "money", min(posted, 1)


def _leg_of(unit: Unit, *, debit: bool, names_posting: bool) -> values.Leg:
    """The leg the contract wants; one from before there were postings names none."""
    leg, mine, theirs, amount = (
        ("debit", unit.sender, unit.receiver, -unit.amount)
        if debit
        else ("credit", unit.receiver, unit.sender, unit.amount)
    )
    return values.Leg(
        f"{unit.event_id}:{leg}", unit.event_id, unit.posting if names_posting else None, leg, mine.name, theirs.name,
        amount, unit.currency, unit.occurred_us,
    )  # fmt: skip


_REFUSAL_NAMES = ("event_id", "transfer_id", "from_account", "to_account", "amount", "currency", "occurred_us")


def _refusal_of(unit: Unit) -> tuple[object, ...]:
    """The fields of a rejection that repeat the transfer."""
    return (
        f"{unit.event_id}:rejected", unit.event_id, unit.sender.name, unit.receiver.name, unit.amount, unit.currency,
        unit.occurred_us,
    )  # fmt: skip
