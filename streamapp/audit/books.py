"""The auditor's books: one unit a transfer, one account a name, and which effects were found for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from streamapp.audit import values
from streamapp.audit.partitioner import murmur2
from streamapp.audit.record import NOWHERE, Topics, place, unpacked

#: The three effects a transfer can have; each is a slot of the unit that holds its position.
Effect: TypeAlias = Literal["refused", "debit", "credit"]


class Seen(NamedTuple):
    """A rejection waiting for its place in the account's order of entries."""

    entries: int
    unit_at: int
    balance: int
    reason: str
    at: int
    unit: Unit


class Account:
    """One account as its log tells it: the fold so far, and how far its order has been followed."""

    __slots__ = (
        "balances", "entries", "hash", "key", "last_credit", "last_debit", "last_decided", "name", "refusals",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = name.encode(errors="surrogatepass")
        self.hash = murmur2(self.key) & 0x7FFFFFFF
        self.entries = 0
        self.balances: dict[str, int] = {}
        self.last_debit = NOWHERE  # position of the transfer of the last debit leg in `balances`
        self.last_decided = NOWHERE  # position of the last transfer posted or refused, in the order of entries
        self.last_credit = NOWHERE  # position in `balances` of the last credit applied
        self.refusals: list[Seen] | None = None

    @property
    def covered(self) -> bool:
        """Whether the account may not go below zero."""
        return not self.name.startswith("@")


class Unit:
    """One transfer that has to have an outcome, and the positions of what was found for it."""

    __slots__ = (
        "amount", "at", "credit", "credited", "currency", "dead", "debit", "debited", "event_id", "occurred_us",
        "receiver", "refused", "sender", "timestamp_ms", "twin",
    )  # fmt: skip

    def __init__(self, at: int, timestamp_ms: int, sender: Account, receiver: Account, fields: values.Transfer) -> None:
        self.at = at
        self.timestamp_ms = timestamp_ms
        self.event_id = fields.event_id
        self.sender = sender
        self.receiver = receiver
        self.amount = fields.amount
        self.currency = fields.currency
        self.occurred_us = fields.occurred_us
        self.refused = self.debit = self.credit = NOWHERE
        self.debited = self.credited = False  # whether the leg's upsert was found
        self.twin = False  # another unit has this sender and event id: which effect is whose cannot be told
        self.dead = False  # dead-lettered although good

    @property
    def posted(self) -> bool:
        """Whether any leg of it was found."""
        return self.debit != NOWHERE or self.credit != NOWHERE

    @property
    def posting(self) -> str:
        """What its legs say which transfer they are of, where ids are not enough."""
        partition, offset = unpacked(self.at)
        return f"{partition}-{offset}"

    def missing(self, debit: bool, credit: bool) -> int:
        """The amount that is not there yet if the debit, the credit or both are not."""
        return (self.amount if credit else 0) - (self.amount if debit else 0)

    def same_content(self, fields: values.Transfer, /) -> bool:
        """Whether the declared fields are equal, times as instants."""
        return (
            self.receiver.name == fields.to_account
            and self.amount == fields.amount
            and self.currency == fields.currency
            and self.occurred_us == fields.occurred_us
        )

    def story(self, topics: Topics) -> tuple[str, ...]:
        """Where the transfer and everything found for it are."""
        lines = [
            f"{place(topics.transfer, self.at)}  {self.event_id}: {self.sender.name} -> {self.receiver.name} "
            f"{self.amount} {self.currency}"
        ]
        for text, topic, position in (
            ("rejected", topics.rejected, self.refused),
            ("debit", topics.balances, self.debit),
            ("credit", topics.balances, self.credit),
        ):
            if position != NOWHERE:
                lines.append(f"{place(topic, position)}  {text}")
        return tuple(lines)


class Books:
    """Every unit by its event id, every account by its name."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self._units: dict[str, Unit | list[Unit]] = {}  # nearly every id has one unit: no list for it
        self._currencies: dict[str, str] = {}  # one text object a currency, not one a transfer

    def __iter__(self) -> Iterator[Unit]:
        for entry in self._units.values():
            if isinstance(entry, Unit):
                yield entry
            else:
                yield from entry

    def account(self, name: str) -> Account:
        """The account of that name, opened when it is first heard of."""
        account = self.accounts.get(name)
        if account is None:
            account = self.accounts[name] = Account(name)
        return account

    def open(self, at: int, timestamp_ms: int, fields: values.Transfer) -> Unit:
        """A new unit for this transfer."""
        fields = fields._replace(currency=self._currencies.setdefault(fields.currency, fields.currency))
        unit = Unit(at, timestamp_ms, self.account(fields.from_account), self.account(fields.to_account), fields)
        entry = self._units.setdefault(unit.event_id, unit)
        if isinstance(entry, list):
            entry.append(unit)
        elif entry is not unit:
            self._units[unit.event_id] = [entry, unit]
        return unit

    def of(self, event_id: str) -> list[Unit]:
        """Every unit with that event id, oldest first within a partition."""
        entry = self._units.get(event_id)
        if entry is None:
            return []
        return [entry] if isinstance(entry, Unit) else entry

    def last_of(self, event_id: str, sender: str) -> Unit | None:
        """The youngest unit with that event id and sender."""
        return next((unit for unit in reversed(self.of(event_id)) if unit.sender.name == sender), None)

    def claim(
        self, effect: Effect, transfer_id: str, owner: str, other: str, amount: int, posting: str | None = None
    ) -> Unit | None:
        """The unit this effect belongs to and that has none of its kind yet; None if there is none.

        `owner` is the account of the effect, `other` the other side. Where several units share the id, the one of the
        `posting`, else the one that fits best: same owner before same other side and amount, before not rejected,
        before older.
        """
        units = self.of(transfer_id)
        if posting is not None:
            units = [unit for unit in units if unit.posting == posting] or units
        units = [unit for unit in units if getattr(unit, effect) == NOWHERE]
        if len(units) < 2:
            return units[0] if units else None

        def fit(unit: Unit) -> tuple[bool, bool, bool]:
            mine, theirs = (unit.receiver, unit.sender) if effect == "credit" else (unit.sender, unit.receiver)
            return mine.name == owner, theirs.name == other and unit.amount == amount, unit.refused == NOWHERE

        return max(units, key=fit)  # the first of equals
