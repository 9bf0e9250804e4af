"""The judge of clicks, from the contract alone: each distinct click is charged once, paid once, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from streamapp.audit import events
from streamapp.audit.dead_letters import DeadLetters
from streamapp.audit.intake import Form, Intake
from streamapp.audit.record import NOWHERE, Record, packed
from streamapp.audit.report import ClickSummary, Findings
from streamapp.audit.terms import Terms
from streamapp.audit.units import Effects, Unit, Units
from streamapp.audit.windows import Windows

#: An advertiser's spending is shown over so many windows' time, a new one at every window's start.
_WINDOWS_LONG = 5


class ClickUnit(Unit):
    """One click."""

    __slots__ = ("charge", "revenue")
    EFFECTS = {"charge": "charge", "revenue": "revenue"}  # noqa: RUF012
    charge: int
    revenue: int


class Clicks:
    """Judges one history; `readers` take its records, topic after topic."""

    def __init__(self, terms: Terms, findings: Findings) -> None:
        topics = terms.topics
        self._terms = terms
        self._findings = findings
        self.summary = ClickSummary()
        self._dead = DeadLetters(topics.click, terms, findings)
        self._units = Units(topics.click, ClickUnit, _advertiser, terms)
        leads_to = (topics.charge, topics.revenue, *terms.changelogs("ad_spend", "inbox"))
        self._intake = Intake(
            Form(events.click, _advertiser, leads_to, self._is_open), terms, findings, self._dead, self.summary,
            self._units.last_of, self._units.open,
        )  # fmt: skip
        self._charges = Effects(
            topics.charge, "charges", "charge", ":charge", events.charge, "advertiser_id", _charge_of, self._units,
            terms, findings,
        )  # fmt: skip
        self._revenues = Effects(
            topics.revenue, "revenues", "revenue", ":revenue", events.revenue, "publisher_id", _revenue_of,
            self._units, terms, findings,
        )  # fmt: skip
        step_us = terms.rules.window_us
        self.spend = Windows(
            "ad-spend", topics.click, topics.ad_spend, topics.click_late, "advertiser_id",
            (_WINDOWS_LONG * step_us, step_us), terms, findings,
        )  # fmt: skip

    def _is_open(self, fields: events.Click) -> bool:
        return self.spend.is_open(fields.advertiser_id, fields.occurred_us, fields.cpc)

    @property
    def readers(self) -> Mapping[str, Callable[[Record], object]]:
        """Who reads which topic."""
        topics = self._terms.topics
        return {
            topics.click_dlt: self._dead.add,
            topics.click_late: self.spend.late.add,
            topics.click: self._click,
            topics.charge: self._charges.take,
            topics.revenue: self._revenues.take,
            topics.ad_spend: self.spend.upsert,
        }

    @property
    def unsettled(self) -> int:
        """Dead letters of records the contract leaves open."""
        return self._intake.unsettled

    @property
    def oversized(self) -> int:
        """Dead letters of good records that lead to what no topic takes."""
        return self._intake.oversized

    def _click(self, record: Record) -> None:
        fields, unit = self._intake.take(record)
        if fields is None:
            return
        at = packed(record.partition, record.offset)
        good = unit is not None and not unit.dead
        if good:
            self.spend.add(record, fields.advertiser_id, fields.occurred_us, fields.cpc, at)
        self.spend.seen(record, fields.occurred_us, at, sure=good)

    def end(self) -> None:
        """What is missing."""
        self._dead.end()
        for unit in self._units:
            self._judge(unit)
        self.spend.end()

    def _judge(self, unit: ClickUnit) -> None:
        counted = self._findings.within(unit.timestamp_ms)
        if not self._units.settled(unit):
            self.summary.in_flight += counted
            return
        self._findings.examine("clicks", unit.timestamp_ms)
        if unit.dead:
            if unit.found:
                self._accuse("torn-unit", unit, "dead-lettered, and yet it had an effect")
        elif not unit.found:
            self._accuse("lost", unit, "neither charged nor paid nor dead-lettered")
        elif len(unit.found) < len(unit.EFFECTS):
            self._accuse("torn-unit", unit, f"the {'charge' if unit.charge == NOWHERE else 'revenue'} is missing")
        else:
            self.summary.clicks += counted
            self.summary.amount += unit.fields.cpc if counted else 0

    def _accuse(self, name: str, unit: ClickUnit, text: str) -> None:
        self._findings.violate("clicks", name, unit.timestamp_ms, text, *self._units.story(unit))

    def least(self) -> Iterator[tuple[str, int]]:
        """How much each check must have examined, for a PASS to mean something."""
        clicks = self.summary.clicks
        yield "clicks", clicks
        yield "charges", clicks
        yield "revenues", clicks
        yield "ad-spend", self.spend.summary.windows + self.spend.summary.final
        yield "placement", 2 * clicks


def _advertiser(fields: events.Click) -> str:
    return fields.advertiser_id


def _charge_of(unit: ClickUnit) -> events.Charge:
    of = unit.fields
    return events.Charge(f"{of.event_id}:charge", of.advertiser_id, of.ad_id, of.cpc, of.occurred_us)


def _revenue_of(unit: ClickUnit) -> events.Revenue:
    of = unit.fields
    return events.Revenue(f"{of.event_id}:revenue", of.publisher_id, of.ad_id, of.cpc, of.occurred_us)
