"""The log of `account-balances`, folded record by record: the witness of each account's order.

Whether a transfer is refused for lack of funds depends on the order in which its account saw debits and
credits. That order is not in the input (credits come from other partitions); it is what the log's `entries`
say. So the log is checked first, entry by entry, and then serves to check every rejection at the place it names.
"""

from __future__ import annotations

from streamapp.audit import values
from streamapp.audit.books import Account, Books, Seen, Unit
from streamapp.audit.record import NOWHERE, Record, packed, place
from streamapp.audit.report import Findings
from streamapp.audit.terms import Terms


class Fold:
    """Folds upserts into the accounts of the books and judges rejections on the way."""

    def __init__(self, books: Books, findings: Findings, terms: Terms) -> None:
        self._books = books
        self._findings = findings
        self._topics = terms.topics
        self._terms = terms
        self.compacted = 0  # gaps and missing upserts that compaction explains
        self._begun = False

    def refusal(self, account: Account, seen: Seen) -> None:
        """Keep a rejection for its place. All of them come before the first upsert."""
        if account.refusals is None:
            account.refusals = []
        account.refusals.append(seen)

    def begin(self) -> None:
        """All rejections are known: put them in the order in which their places come, the next one last."""
        if self._begun:
            return
        self._begun = True
        for account in self._books.accounts.values():
            if account.refusals:
                account.refusals.sort(reverse=True)

    def upsert(self, record: Record, upsert: values.Upsert, account: Account) -> int:
        """One applied leg; the append time of its transfer, of the record itself if it has none."""
        at = packed(record.partition, record.offset)
        unit = self._find(upsert, account)
        if unit is None or (unit.debited if upsert.leg == "debit" else unit.credited):
            return self._without_leg(record, at, upsert, account, unit)
        self._judge_refusals(account)
        if upsert.leg == "debit":
            unit.debited, leg_at, amount = True, unit.debit, -unit.amount
        else:
            unit.credited, leg_at, amount = True, unit.credit, unit.amount
        self._findings.examine("upserts", unit.timestamp_ms)
        if leg_at == NOWHERE:
            text = f"{upsert.leg} applied, but {self._topics.balances} has no such leg"
            self._accuse("upserts", "phantom", unit, text, self._story(at, upsert))
        self._follow(record, upsert, account, unit, leg_at)
        self._compare(at, upsert, account, unit, amount)
        return unit.timestamp_ms

    def end(self) -> None:
        """The log is at its end: judge the rejections behind the last entry."""
        for account in self._books.accounts.values():
            self._judge_refusals(account)
            for seen in account.refusals or ():
                if seen.entries > account.entries and self._terms.cut.settled(self._topics.transfer, seen.unit_at):
                    text = f"saw {seen.entries} entries of {account.name}, which has {account.entries}"
                    self._accuse("rejections", "unjustified-refusal", seen.unit, text)

    def _find(self, upsert: values.Upsert, account: Account) -> Unit | None:
        """The unit whose leg this is: not applied before applied, with its leg before without, older first."""
        mine = [
            unit
            for unit in self._books.of(upsert.transfer_id)
            if (unit.sender if upsert.leg == "debit" else unit.receiver) is account
        ]
        if len(mine) < 2:
            return mine[0] if mine else None

        def order(unit: Unit) -> tuple[bool, bool, int]:
            debit = upsert.leg == "debit"
            leg_at = unit.debit if debit else unit.credit
            return unit.debited if debit else unit.credited, leg_at == NOWHERE, leg_at

        return min(mine, key=order)

    def _without_leg(self, record: Record, at: int, upsert: values.Upsert, account: Account, unit: Unit | None) -> int:
        """An upsert for a leg that does not exist or was applied before."""
        moment = record.timestamp_ms if unit is None else unit.timestamp_ms
        self._findings.examine("upserts", moment)
        if unit is None:
            text = f"no transfer {upsert.transfer_id!r} has a {upsert.leg} of {account.name}"
            self._findings.violate("upserts", "phantom", moment, text, self._story(at, upsert))
        else:
            text = f"{upsert.leg} of {account.name} applied again"
            story = unit.story(self._topics)
            self._findings.violate("upserts", "duplicate", moment, text, self._story(at, upsert), *story)
        if upsert.entries > account.entries:  # the service counted it: go on from what it says
            self._judge_refusals(account)
            account.entries, account.balances = upsert.entries, upsert.balances
        return moment

    def _follow(self, record: Record, upsert: values.Upsert, account: Account, unit: Unit, leg_at: int) -> None:
        """The entry's number and its place among the account's debits or credits."""
        at = packed(record.partition, record.offset)
        self._findings.examine("order", unit.timestamp_ms)
        if upsert.entries > account.entries + 1 and self._terms.may_be_compacted(record.topic, record.timestamp_ms):
            self.compacted += 1
        elif upsert.entries != account.entries + 1:
            text = f"entries {upsert.entries} after {account.entries} of {account.name}"
            self._accuse("upserts", "order-gap", unit, text, self._story(at, upsert))
        if unit.twin:  # which of the twins this is cannot be told, so neither can its place
            return
        if upsert.leg == "debit":
            late, account.last_decided = unit.at <= account.last_decided, unit.at
        else:
            late, account.last_credit = NOWHERE != leg_at <= account.last_credit, leg_at
        if late:
            text = f"{upsert.leg} of {account.name} applied after a younger one"
            self._accuse("order", "order-inversion", unit, text, self._story(at, upsert))

    def _compare(self, at: int, upsert: values.Upsert, account: Account, unit: Unit, amount: int) -> None:
        """The running balances after this leg; after a difference the fold goes on from what the log says."""
        balances = account.balances
        gap = upsert.entries != account.entries + 1
        balance = balances.get(unit.currency, 0) + amount
        balances[unit.currency] = balance
        account.entries = upsert.entries
        if balances != upsert.balances and _moved(balances) != _moved(upsert.balances):
            if not gap:  # a gap is told once, as a gap
                text = f"{account.name} has {upsert.balances}, its legs make {balances}"
                self._accuse("upserts", "table-not-fold", unit, text, self._story(at, upsert))
            account.balances = upsert.balances
            balance = upsert.balances.get(unit.currency, 0)
        if upsert.updated_us != unit.occurred_us:
            self._accuse(
                "upserts", "changed", unit, "updated_at is not the transfer's occurred_at", self._story(at, upsert)
            )
        if amount < 0 and account.covered:
            self._findings.examine("cover", unit.timestamp_ms)
            if balance < 0:
                text = f"{account.name} is left with {balance} {unit.currency}"
                self._accuse("cover", "overdraft", unit, text, self._story(at, upsert))

    def _judge_refusals(self, account: Account) -> None:
        """The rejections that saw exactly the entries there are now."""
        waiting = account.refusals
        while waiting and waiting[-1].entries <= account.entries:
            seen = waiting.pop()
            if seen.entries == account.entries:
                self._judge_refusal(account, seen)

    def _judge_refusal(self, account: Account, seen: Seen) -> None:
        unit = seen.unit
        self._findings.examine("rejections", unit.timestamp_ms)
        self._findings.examine("order", unit.timestamp_ms)
        if not unit.twin:
            if unit.at <= account.last_decided:
                text = f"rejected after {seen.entries} entries of {account.name}, behind a younger transfer"
                self._accuse("order", "order-inversion", unit, text)
            account.last_decided = max(unit.at, account.last_decided)
        balance = account.balances.get(unit.currency, 0)
        reason = reason_to_refuse(unit, balance)
        if seen.balance != balance:
            text = (
                f"saw a balance of {seen.balance} {unit.currency} after {seen.entries} entries of {account.name}, "
                f"which had {balance}"
            )
            self._accuse("rejections", "unjustified-refusal", unit, text)
        elif reason is None:
            text = f"rejected as {seen.reason}, but {account.name} had {balance} {unit.currency}"
            self._accuse("rejections", "unjustified-refusal", unit, text)
        elif reason != seen.reason:
            text = f"rejected as {seen.reason}, the reason is {reason}"
            self._accuse("rejections", "wrong-reason", unit, text)

    def _accuse(self, check: str, name: str, unit: Unit, text: str, *more: str) -> None:
        self._findings.violate(check, name, unit.timestamp_ms, text, *more, *unit.story(self._topics))

    def _story(self, at: int, upsert: values.Upsert) -> str:
        return (
            f"{place(self._topics.account_balances, at)}  {upsert.account}: {upsert.leg} of {upsert.transfer_id}, "
            f"entries {upsert.entries}, balances {upsert.balances}"
        )


def reason_to_refuse(unit: Unit, balance: int) -> str | None:
    """The contract's precedence of reasons; None for a transfer that has to be posted."""
    if unit.amount <= 0:
        return "amount_not_positive"
    if unit.sender is unit.receiver:
        return "same_account"
    if unit.sender.covered and balance < unit.amount:
        return "insufficient_funds"
    return None


def _moved(balances: dict[str, int]) -> dict[str, int]:
    """Without the currencies at zero: the contract does not say whether they are written."""
    return {currency: amount for currency, amount in balances.items() if amount}
