"""The judge of payments and deliveries, from the contract alone.

A merchant's payments are in one partition, so their order is known, and with it every outcome: the rules are run
again over the input, and each record of the service is held against what they say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from streamapp.audit import events, values
from streamapp.audit.dead_letters import DeadLetters
from streamapp.audit.intake import Form, Intake
from streamapp.audit.record import NOWHERE, Record, packed
from streamapp.audit.report import Findings, PaymentSummary
from streamapp.audit.terms import Terms
from streamapp.audit.units import Effects, U, Unit, Units
from streamapp.audit.windows import Windows


class PaymentUnit(Unit):
    """One payment; `reason` None: it has to be completed."""

    __slots__ = ("delivery", "reason", "result")
    EFFECTS = {"result": "payment_result", "delivery": "delivery"}  # noqa: RUF012
    reason: str | None
    result: int
    delivery: int


class DeliveryUnit(Unit):
    """One order to deliver."""

    __slots__ = ("status",)
    EFFECTS = {"status": "delivery_status"}  # noqa: RUF012
    status: int


class Payments:
    """Judges one history; `readers` take its records, topic after topic."""

    def __init__(self, terms: Terms, findings: Findings) -> None:
        topics = terms.topics
        self._terms = terms
        self._findings = findings
        self.summary = PaymentSummary()
        self._dead_payments = DeadLetters(topics.payment, terms, findings)
        self._dead_deliveries = DeadLetters(topics.delivery, terms, findings)
        self._payments = Units(topics.payment, PaymentUnit, _merchant, terms)
        self._deliveries = Units(topics.delivery, DeliveryUnit, _order, terms)
        self._paid: set[tuple[str, str]] = set()
        leads_to = (topics.payment_result, topics.delivery, *terms.changelogs("payments", "payment_totals", "inbox"))
        started = (topics.delivery_status, *terms.changelogs("inbox"))
        self._payment_intake = Intake(
            Form(events.payment, _merchant, leads_to, self._is_open), terms, findings, self._dead_payments,
            self.summary, self._payments.last_of, self._payments.open,
        )  # fmt: skip
        self._delivery_intake = Intake(
            Form(events.delivery, _order, started), terms, findings, self._dead_deliveries,
            self.summary.deliveries, self._deliveries.last_of, self._deliveries.open,
        )  # fmt: skip
        self._results = Effects(
            topics.payment_result, "results", "result", ":result", events.result, "order_id", _result_of,
            self._payments, terms, findings,
        )  # fmt: skip
        self._started = Effects(
            topics.delivery, "deliveries", "delivery", ":delivery", events.delivery, "order_id", _delivery_of,
            self._payments, terms, findings,
        )  # fmt: skip
        self._statuses = Effects(
            topics.delivery_status, "deliveries", "status", ":status", events.status, "order_id", _status_of,
            self._deliveries, terms, findings,
        )  # fmt: skip
        size_us = terms.rules.window_us
        self.totals = Windows(
            "totals", topics.payment, topics.payment_totals, topics.payment_late, "merchant_id", (size_us, size_us),
            terms, findings,
        )  # fmt: skip

    def _is_open(self, fields: events.Payment) -> bool:
        return self.totals.is_open(fields.merchant_id, fields.occurred_us, fields.amount)

    @property
    def readers(self) -> Mapping[str, Callable[[Record], object]]:
        """Who reads which topic."""
        topics = self._terms.topics
        return {
            topics.payment_dlt: self._dead_payments.add,
            topics.payment_late: self.totals.late.add,
            topics.delivery_dlt: self._dead_deliveries.add,
            topics.payment: self._payment,
            topics.payment_result: self._results.take,
            topics.delivery: self._delivery,
            topics.delivery_status: self._statuses.take,
            topics.payment_totals: self.totals.upsert,
        }

    @property
    def unsettled(self) -> int:
        """Dead letters of records the contract leaves open."""
        return self._payment_intake.unsettled + self._delivery_intake.unsettled

    @property
    def oversized(self) -> int:
        """Dead letters of good records that lead to what no topic takes."""
        return self._payment_intake.oversized + self._delivery_intake.oversized

    def _payment(self, record: Record) -> None:
        fields, unit = self._payment_intake.take(record)
        if fields is None:
            return
        at = packed(record.partition, record.offset)
        good = unit is not None and not unit.dead
        if unit is not None:
            order = (fields.merchant_id, fields.order_id)
            unit.reason = reason_to_decline(fields, order in self._paid, self._terms.rules.payment_limit)
            if good and unit.reason is None:
                self._paid.add(order)
                self.totals.add(record, fields.merchant_id, fields.occurred_us, fields.amount, at)
        self.totals.seen(record, fields.occurred_us, at, sure=good)

    def _delivery(self, record: Record) -> None:
        """What a completed payment leads to, and what a status comes from."""
        try:
            fields = events.delivery(record.value)
        except values.Malformed:
            pass  # the intake asks for its dead letter
        else:
            self._started.claim(record, fields)
        self._delivery_intake.take(record)

    def end(self) -> None:
        """What is missing."""
        self._dead_payments.end()
        self._dead_deliveries.end()
        for payment in self._payments:
            self._judge_payment(payment)
        for delivery in self._deliveries:
            self._judge_delivery(delivery)
        self.totals.end()

    def _judge_payment(self, unit: PaymentUnit) -> None:
        counted = self._findings.within(unit.timestamp_ms)
        if not self._payments.settled(unit):
            self.summary.in_flight += counted
            return
        self._findings.examine("payments", unit.timestamp_ms)
        accuse = self._accuser("payments", self._payments, unit)
        if unit.dead:
            if unit.found:
                accuse("torn-unit", "dead-lettered, and yet it had an effect")
            return
        if unit.reason is None:
            self.summary.completed += counted
            if not unit.found:
                accuse("lost", "neither completed nor declined nor dead-lettered")
            elif unit.result == NOWHERE or unit.delivery == NOWHERE:
                accuse("torn-unit", f"the {'result' if unit.result == NOWHERE else 'delivery'} is missing")
        else:
            self.summary.declined[unit.reason] += counted
            if unit.result == NOWHERE:
                accuse("lost", f"not declined, although {unit.reason}")

    def _judge_delivery(self, unit: DeliveryUnit) -> None:
        if not self._deliveries.settled(unit):
            return
        self._findings.examine("deliveries", unit.timestamp_ms)
        accuse = self._accuser("deliveries", self._deliveries, unit)
        if unit.dead:
            if unit.found:
                accuse("torn-unit", "dead-lettered, and yet it had an effect")
        elif unit.status == NOWHERE:
            accuse("lost", "never started")
        else:
            self.summary.started += self._findings.within(unit.timestamp_ms)

    def _accuser(self, check: str, units: Units[U], unit: U) -> Callable[[str, str], None]:
        return lambda name, text: self._findings.violate(check, name, unit.timestamp_ms, text, *units.story(unit))

    def least(self) -> Iterator[tuple[str, int]]:
        """How much each check must have examined, for a PASS to mean something."""
        completed, declined = self.summary.completed, self.summary.declined.total()
        yield "payments", completed + declined
        yield "results", completed + declined
        yield "deliveries", completed + 2 * self.summary.started
        yield "totals", self.totals.summary.windows + self.totals.summary.final
        yield "placement", 2 * completed + declined + self.summary.started


def reason_to_decline(payment: events.Payment, paid: bool, limit: int) -> str | None:
    """The contract's precedence of reasons; None for a payment that has to be completed."""
    if payment.amount <= 0:
        return "amount_not_positive"
    if payment.amount > limit:
        return "over_limit"
    return "already_paid" if paid else None


def _merchant(fields: events.Payment) -> str:
    return fields.merchant_id


def _order(fields: events.Delivery) -> str:
    return fields.order_id


def _result_of(unit: PaymentUnit) -> events.Result:
    of = unit.fields
    kind = "PAYMENT_COMPLETED" if unit.reason is None else "PAYMENT_DECLINED"
    return events.Result(
        f"{of.event_id}:result", kind, of.order_id, of.customer_id, of.merchant_id, of.amount, of.currency, unit.reason,
        of.occurred_us,
    )  # fmt: skip


def _delivery_of(unit: PaymentUnit) -> events.Delivery | None:
    of = unit.fields
    if unit.reason is not None:
        return None
    return events.Delivery(f"{of.event_id}:delivery", "DELIVERY_START", of.order_id, of.customer_id, of.occurred_us)


def _status_of(unit: DeliveryUnit) -> events.Status:
    of = unit.fields
    return events.Status(f"{of.event_id}:status", "DELIVERY_STARTED", of.order_id, of.occurred_us)
