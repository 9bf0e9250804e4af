"""The judges of payments, clicks and windows on made-up histories: right ones pass, broken ones fail by name.

The histories come from a few lines that act as the service does (`Shop`), written from the contract and apart from
the judges. By nature invisible, and left out on purpose: the last upsert of a window that is still open (upserts may be
rare), a repeat of a good record in the input, and the order of records in the topics of effects.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streamapp.audit.judge import Judge
from streamapp.audit.partitioner import partition_of
from streamapp.audit.record import Record
from streamapp.audit.report import CHECKS, VIOLATIONS, Findings, Report, Verdict
from streamapp.audit.terms import Cut, Expect, Rules, Terms

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from histories import OF_WINDOWS, PARTITIONS, TOPICS, Blinded, Log, elsewhere, names, read

Edit = Callable[[Log], None]
ELEVEN = 1_767_265_200  # 2026-01-01T11:00:00Z; the first record is appended at noon
LIMIT, SIZE, GRACE = 1000, 60, 10
MINE = (
    "payments", "results", "deliveries", "totals", "clicks", "charges", "revenues", "ad-spend", "dead letters",
    "placement",
)  # fmt: skip


def at(second: float) -> str:
    """RFC 3339, seconds after eleven."""
    return datetime.fromtimestamp(ELEVEN + second, UTC).isoformat().replace("+00:00", "Z")


def pay(log: Log, event_id: str, second: float = 0, *, merchant: str = "shop", **other: Any) -> Record:
    """A record of `payment`."""
    partition, key = other.pop("partition", None), other.pop("key", merchant)
    value = {
        "event_id": event_id, "event_type": "PAYMENT_REQUESTED", "order_id": f"o-{event_id}", "customer_id": "ann",
        "merchant_id": merchant, "amount": 5, "currency": "EUR", "occurred_at": at(second), **other,
    }  # fmt: skip
    return log.append(TOPICS.payment, key, value, partition)


def click(log: Log, event_id: str, second: float = 0, *, advertiser: str = "adv", **other: Any) -> Record:
    """A record of `ad-click`."""
    value = {
        "event_id": event_id, "ad_id": "ad", "advertiser_id": advertiser, "publisher_id": "pub", "cpc": 3,
        "occurred_at": at(second), **other,
    }  # fmt: skip
    return log.append(TOPICS.click, advertiser, value)


class Book:
    """The windows of one log of upserts."""

    def __init__(self, log: Log, topic: str, late: str, owner: str, size: int) -> None:
        self.log, self.topic, self.late, self.owner, self.size = log, topic, late, owner, size
        self.closed_until: dict[int, float] = {}
        self.watermark: dict[int, float] = {}
        self.windows: dict[tuple[int, str, int], list[Any]] = {}  # count, amount, revision

    def see(self, partition: int, time: float) -> None:
        self.watermark[partition] = max(self.watermark.get(partition, -1), time)
        self.close(partition, self.watermark[partition] - GRACE)

    def silence(self, partition: int) -> None:
        """The partition was silent: every window that has begun is closed."""
        self.close(partition, self.watermark.get(partition, -1) + self.size)

    def close(self, partition: int, until: float) -> None:
        self.closed_until[partition] = max(self.closed_until.get(partition, 0), until)
        due = [at for at in self.windows if at[0] == partition and at[2] + self.size <= self.closed_until[partition]]
        for where in due:
            self.upsert(where, final=True)
            del self.windows[where]

    def add(self, source: Record, name: str, time: float, amount: int) -> None:
        self.see(source.partition, time)
        late = False
        for start in range(int((time - self.size) // SIZE + 1) * SIZE, int(time) + 1, SIZE):
            if start + self.size <= self.closed_until[source.partition]:
                late = True
                continue
            window = self.windows.setdefault((source.partition, name, start), [0, 0, 0])
            window[0] += 1
            window[1] += amount
            self.upsert((source.partition, name, start), final=False)
        if late:
            self.log.append(self.late, source.key, source.value, headers=(("late-windows", b"some"),))

    def upsert(self, where: tuple[int, str, int], *, final: bool) -> None:
        _, name, start = where
        window = self.windows[where]
        window[2] += 1
        begin, end = at(start - ELEVEN), at(start + self.size - ELEVEN)
        value = {self.owner: name, "window_start": begin, "window_end": end, "count": window[0], "amount": window[1],
                 "revision": window[2], "final": final}  # fmt: skip
        self.log.append(self.topic, f"{name}|{begin}", value)


class Shop:
    """What a correct worker does with payments, deliveries and clicks, the partitions in any order."""

    inbox = True

    def __init__(self, log: Log, rng: random.Random) -> None:
        self.log, self.rng = log, rng
        self.paid: set[tuple[str, str]] = set()
        self.marks: dict[tuple[str, bytes | None, str], str] = {}
        self.totals = Book(log, TOPICS.payment_totals, TOPICS.payment_late, "merchant_id", SIZE)
        self.spend = Book(log, TOPICS.ad_spend, TOPICS.click_late, "advertiser_id", 5 * SIZE)
        self.done = {(t, p): 0 for t in (TOPICS.payment, TOPICS.delivery, TOPICS.click) for p in range(PARTITIONS)}

    def step(self) -> bool:
        """One event of one partition; False when there is none left."""
        ready = [it for it, offset in self.done.items() if offset < len(self.log.partitions[it[0]][it[1]])]
        if not ready:
            return False
        topic, partition = self.rng.choice(ready)
        record = self.log.partitions[topic][partition][self.done[topic, partition]]
        self.done[topic, partition] += 1
        owner, work = {
            TOPICS.payment: ("merchant_id", self.payment),
            TOPICS.delivery: ("order_id", self.delivery),
            TOPICS.click: ("advertiser_id", self.click),
        }[topic]
        fault = self.fault(record, owner)
        if fault:
            self.log.bury(record, fault)
        elif fault is None:
            work(record, read(record))
        return True

    def run(self) -> None:
        while self.step():
            pass

    def fault(self, record: Record, owner: str) -> str | None:
        """Why it is bad; None for a record that is to be worked on, "" for a repeat."""
        try:
            value = read(record)
            assert type(value.get("amount", value.get("cpc", 1))) is int and value.get("cpc", 1) > 0
            assert value.get("event_type", "DELIVERY_START") in ("PAYMENT_REQUESTED", "DELIVERY_START")
            time = datetime.fromisoformat(value["occurred_at"]).timestamp()
        except (ValueError, KeyError, TypeError, AssertionError, AttributeError):
            return "MalformedRecord"
        if value[owner].encode() != record.key:
            return "KeyMismatch"
        if record.partition != partition_of(record.key, PARTITIONS):
            return "WrongPartition"
        if time * 1000 > record.timestamp_ms + 3_600_000:
            return "TooFarAhead"
        mark, content = (record.topic, record.key, value["event_id"]), json.dumps(value)
        if self.inbox and mark in self.marks:
            return "" if self.marks[mark] == content else "EventIdConflict"
        self.marks[mark] = content
        return None

    def payment(self, record: Record, value: dict[str, Any]) -> None:
        order = value["merchant_id"], value["order_id"]
        reason = self.reason(value, order in self.paid)
        common = {name: value[name] for name in ("order_id", "customer_id", "occurred_at")}
        self.log.append(TOPICS.payment_result, value["order_id"], {
            **value, "event_id": f"{value['event_id']}:result", "reason": reason,
            "event_type": "PAYMENT_DECLINED" if reason else "PAYMENT_COMPLETED",
        })  # fmt: skip
        time = datetime.fromisoformat(value["occurred_at"]).timestamp()
        if reason is None:
            self.paid.add(order)
            started = {**common, "event_id": f"{value['event_id']}:delivery", "event_type": "DELIVERY_START"}
            self.log.append(TOPICS.delivery, value["order_id"], started)
            self.totals.add(record, value["merchant_id"], time, value["amount"])
        self.totals.see(record.partition, time)

    def reason(self, value: dict[str, Any], paid: bool) -> str | None:
        if value["amount"] <= 0:
            return "amount_not_positive"
        if value["amount"] > LIMIT:
            return "over_limit"
        return "already_paid" if paid else None

    def delivery(self, record: Record, value: dict[str, Any]) -> None:
        status = {name: value[name] for name in ("order_id", "occurred_at")}
        status |= {"event_id": f"{value['event_id']}:status", "event_type": "DELIVERY_STARTED"}
        self.log.append(TOPICS.delivery_status, value["order_id"], status)

    def click(self, record: Record, value: dict[str, Any]) -> None:
        common = {"ad_id": value["ad_id"], "amount": value["cpc"], "occurred_at": value["occurred_at"]}
        for topic, owner, kind in (
            (TOPICS.charge, "advertiser_id", "charge"),
            (TOPICS.revenue, "publisher_id", "revenue"),
        ):
            effect = {**common, owner: value[owner], "event_id": f"{value['event_id']}:{kind}"}
            self.log.append(topic, value[owner], effect)
        time = datetime.fromisoformat(value["occurred_at"]).timestamp()
        self.spend.add(record, value["advertiser_id"], time, value["cpc"])


def judge(
    log: Log, *, expect: Expect = "once", cut: Cut | None = None, idle: bool = False, findings: Findings | None = None,
    **terms: Any,
) -> Report:  # fmt: skip
    rules = Rules(payment_limit=LIMIT, window_us=SIZE * 1_000_000, grace_us=GRACE * 1_000_000, closes_idle=idle)
    made = Judge(
        Terms(dict.fromkeys(TOPICS.all, PARTITIONS), expect=expect, rules=rules, cut=cut or Cut(), **terms), findings
    )
    made.read(log.records())
    return made.judgement()


# -- a small history by hand -------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> Log:
    return small(Shop)


def small(kind: type[Shop]) -> Log:
    """Every outcome once, a bad record of each kind, a late one; the first two minutes are closed, the rest open."""
    log = Log()
    shop = kind(log, random.Random(1))
    far = (partition_of(b"shop", PARTITIONS) + 1) % PARTITIONS
    pay(log, "p1", 1, amount=100)
    pay(log, "p2", 59.999, amount=20)
    pay(log, "zero", 5, amount=0)
    pay(log, "most", 5, amount=LIMIT)
    pay(log, "over", 5, amount=LIMIT + 1)
    pay(log, "both", 5, amount=LIMIT + 1, order_id="o-p1")  # two reasons: the first of the precedence
    pay(log, "again", 6, order_id="o-p1")
    pay(log, "other", 6, order_id="o-p1", merchant="stall")
    pay(log, "p3", 60)
    pay(log, "declined moves the watermark", 70, amount=0)
    pay(log, "late", 30)
    pay(log, "p1", 1, amount=100)  # a repeat
    pay(log, "p1", 1, amount=101)  # a conflict
    pay(log, "text", 1, amount="1")
    pay(log, "type", 1, event_type="PAYMENT_WISHED")
    pay(log, "key", 1, key="stall")
    pay(log, "far", 1, partition=far)
    pay(log, "future", 2 * 3600 + 60)  # an hour and a minute ahead
    pay(log, "p4", 190)  # closes two minutes
    shop.run()
    log.append(TOPICS.delivery, "o", b"{}")
    for number, second in enumerate((0, 10, 299.999, 300, 310, 20, 250, 371, 100, 800)):
        click(log, f"c{number}", second)
    click(log, "c1", 10)  # a repeat
    click(log, "free", 10, cpc=0)
    shop.run()
    return log


def result(log: Log, event_id: str) -> Record:
    return log.one(TOPICS.payment_result, event_id=f"{event_id}:result")


def started(log: Log, event_id: str) -> Record:
    return log.one(TOPICS.delivery, event_id=f"{event_id}:delivery")


def status(log: Log, event_id: str) -> Record:
    return log.one(TOPICS.delivery_status, event_id=f"{event_id}:delivery:status")


def charge(log: Log, event_id: str) -> Record:
    return log.one(TOPICS.charge, event_id=f"{event_id}:charge")


def revenue(log: Log, event_id: str) -> Record:
    return log.one(TOPICS.revenue, event_id=f"{event_id}:revenue")


def total(log: Log, revision: int = 1, start: float = 0, merchant: str = "shop") -> Record:
    return log.one(TOPICS.payment_totals, merchant_id=merchant, window_start=at(start), revision=revision)


def final(log: Log, topic: str = TOPICS.payment_totals, start: float = 0) -> Record:
    own = [r for r in log.all(topic) if read(r)["final"] and read(r)["window_start"] == at(start)]
    return next(r for r in own if read(r).get("merchant_id", "shop") == "shop")


def late(log: Log, topic: str = TOPICS.payment_late) -> Record:
    return log.all(topic)[0]


def lose(*find: Callable[[Log], Record]) -> Edit:
    """Drop them all."""

    def edit(log: Log) -> None:
        for target in [one(log) for one in find]:
            log.drop(target)

    return edit


def test_correct_history_passes_and_says_what_it_examined(log: Log) -> None:
    report = judge(log)
    assert report.verdict is Verdict.PASS, report.as_json()
    assert all(report.findings.examined[check] for check in MINE)
    assert set(MINE) < set(CHECKS)
    payments, clicks = report.payments, report.clicks
    assert (payments.records_in, payments.completed, payments.started) == (19, 7, 7)
    assert payments.declined == {"amount_not_positive": 2, "over_limit": 2, "already_paid": 1}
    assert (payments.duplicates, payments.conflicts, payments.dead_letters) == (1, 1, 6)
    assert (clicks.records_in, clicks.clicks, clicks.amount, clicks.dead_letters) == (12, 10, 30, 1)
    totals, spend = report.totals_by_window, report.spend_by_window
    assert (totals.windows, totals.final, totals.amount, totals.late) == (4, 3, 1130, 1)
    assert spend.late >= 1
    assert spend.final > 0
    assert any("without a final" in note for note in report.notes)


BROKEN: dict[str, tuple[Edit, str]] = {
    "no result": (lambda h: h.drop(result(h, "p1")), "torn-unit"),
    "no delivery": (lambda h: h.drop(started(h, "p1")), "torn-unit"),
    "a status without its delivery": (lambda h: h.drop(started(h, "p1")), "phantom"),
    "no refusal": (lambda h: h.drop(result(h, "zero")), "lost"),
    "neither result nor delivery": (lose(lambda h: result(h, "p1"), lambda h: started(h, "p1")), "lost"),
    "two results": (lambda h: h.repeat(result(h, "p1")), "duplicate"),
    "two deliveries": (lambda h: h.repeat(started(h, "p1")), "duplicate"),
    "another amount": (lambda h: h.alter(result(h, "p1"), amount=99), "changed"),
    "another customer": (lambda h: h.alter(started(h, "p1"), customer_id="bob"), "changed"),
    "another order in a status": (lambda h: h.alter(status(h, "p1"), order_id="o-p2"), "changed"),
    "declined without a reason": (
        lambda h: h.alter(result(h, "p1"), event_type="PAYMENT_DECLINED", reason="over_limit"),
        "unjustified-refusal",
    ),
    "completed in spite of a reason": (
        lambda h: h.alter(result(h, "over"), event_type="PAYMENT_COMPLETED", reason=None),
        "unjustified-posting",
    ),
    "an order paid twice": (
        lambda h: h.alter(result(h, "again"), event_type="PAYMENT_COMPLETED", reason=None),
        "unjustified-posting",
    ),
    "another reason": (lambda h: h.alter(result(h, "both"), reason="already_paid"), "wrong-reason"),
    "completed with a reason": (lambda h: h.alter(result(h, "p1"), reason="tired"), "unjustified-refusal"),
    "declined and completed": (lambda h: h.alter(result(h, "p1"), event_type="PAYMENT_DECLINED"), "changed"),
    "a delivery of a refused payment": (
        lambda h: h.append(
            TOPICS.delivery, "o-zero",
            {"event_id": "zero:delivery", "event_type": "DELIVERY_START", "order_id": "o-zero", "customer_id": "ann",
             "occurred_at": at(5)},
        ),
        "phantom",
    ),
    "a result of nothing": (lambda h: h.alter(result(h, "p1"), event_id="p9:result"), "phantom"),
    "a delivery of nothing": (lambda h: h.alter(started(h, "p1"), event_id="p9:delivery"), "phantom"),
    "never started": (lambda h: h.drop(status(h, "p1")), "lost"),
    "started twice": (lambda h: h.repeat(status(h, "p1")), "duplicate"),
    "a wrong key of a result": (lambda h: h.replace(result(h, "p1"), key=b"shop"), "misplaced"),
    "a status elsewhere": (lambda h: h.move(status(h, "p1"), elsewhere(status(h, "p1"))), "misplaced"),
    "garbage in results": (lambda h: h.append(TOPICS.payment_result, "o", b"?"), "malformed"),
    "garbage in deliveries": (lambda h: h.append(TOPICS.delivery, "o", b"?"), "dlq-missing"),
    "a payment gone": (lambda h: h.drop(h.one(TOPICS.payment, event_id="p2")), "phantom"),
    "no dead letter of a type": (lambda h: h.drop(_letter(h, TOPICS.payment_dlt, b'"type"')), "dlq-missing"),
    "no dead letter of a conflict": (lambda h: h.drop(_letter(h, TOPICS.payment_dlt, b"101")), "dlq-missing"),
    "a dead letter of a good payment": (
        lambda h: h.bury(h.one(TOPICS.payment, event_id="p2"), "Any"),
        "dlq-unjustified",
    ),
    "a click without a charge": (lambda h: h.drop(charge(h, "c2")), "torn-unit"),
    "a click without a revenue": (lambda h: h.drop(revenue(h, "c2")), "torn-unit"),
    "a click without either": (lose(lambda h: charge(h, "c2"), lambda h: revenue(h, "c2")), "lost"),
    "charged twice": (lambda h: h.repeat(charge(h, "c1")), "duplicate"),
    "paid twice": (lambda h: h.repeat(revenue(h, "c1")), "duplicate"),
    "charged more": (lambda h: h.alter(charge(h, "c2"), amount=4), "changed"),
    "paid to another": (lambda h: h.alter(revenue(h, "c2"), publisher_id="me"), "changed"),
    "a click gone": (lambda h: h.drop(h.one(TOPICS.click, event_id="c2")), "phantom"),
    "a free click that was charged": (
        lambda h: h.append(
            TOPICS.charge, "adv",
            {"event_id": "free:charge", "advertiser_id": "adv", "ad_id": "ad", "amount": 0, "occurred_at": at(10)},
        ),
        "phantom",
    ),
    # windows
    "a wrong sum": (lambda h: h.alter(final(h), amount=read(final(h))["amount"] + 1), "wrong-total"),
    "a wrong count": (lambda h: h.alter(total(h, 2), count=9), "wrong-total"),
    "a count of nothing": (lambda h: h.alter(total(h, 1), count=0, amount=0), "wrong-total"),
    "a final that forgets one": (
        lambda h: h.alter(final(h), count=read(final(h))["count"] - 1, amount=120),
        "wrong-total",
    ),
    "a revision twice": (lambda h: h.repeat(total(h, 1, 180)), "revision-gap"),
    "a revision gone": (lambda h: h.drop(total(h, 1)), "revision-gap"),
    "a revision too far": (lambda h: h.alter(total(h, 2), revision=3), "revision-gap"),
    "no final": (lambda h: h.drop(final(h)), "final-missing"),
    "a final that is none": (lambda h: h.alter(final(h), final=False), "final-missing"),
    "two finals": (lambda h: h.repeat(final(h)), "final-changed"),
    "a change after the final": (
        lambda h: h.append(
            TOPICS.payment_totals, final(h).key,
            {**read(final(h)), "final": False, "revision": read(final(h))["revision"] + 1},
        ),
        "final-changed",
    ),
    "a final too early": (lambda h: h.alter(total(h, 1, 180), final=True), "final-early"),
    "another end": (lambda h: h.alter(total(h, 1), window_end=at(61)), "changed"),
    "a window of nobody": (lambda h: h.alter(total(h, 1), merchant_id="eve"), "phantom"),
    "a window between windows": (lambda h: h.alter(total(h, 1), window_start=at(1)), "phantom"),
    "a wrong key of a window": (lambda h: h.replace(total(h, 1), key=b"shop"), "misplaced"),
    "a window elsewhere": (lambda h: h.move(total(h, 1, 180), elsewhere(total(h, 1, 180))), "misplaced"),
    "garbage in totals": (lambda h: h.append(TOPICS.payment_totals, "shop", b"{}"), "malformed"),
    "no late record": (lambda h: h.drop(late(h)), "late-missing"),
    "a late record twice": (lambda h: h.repeat(late(h)), "late-unjustified"),
    "a late record that was on time": (
        lambda h: h.append(
            TOPICS.payment_late, "shop", h.one(TOPICS.payment, event_id="p3").value, headers=late(h).headers
        ),
        "late-unjustified",
    ),
    "a late record of a refused payment": (
        lambda h: h.append(
            TOPICS.payment_late, "shop", h.one(TOPICS.payment, event_id="zero").value, headers=late(h).headers
        ),
        "phantom",
    ),
    "a late record with other bytes": (lambda h: h.replace(late(h), value=b"{}"), "late-missing"),
    "a late record that does not say why": (lambda h: h.replace(late(h), headers=()), "late-altered"),
    "a late record elsewhere": (lambda h: h.move(late(h), elsewhere(late(h))), "misplaced"),
    "a late click without its record": (lambda h: h.drop(late(h, TOPICS.click_late)), "late-missing"),
    "no final of a hopping window": (lambda h: h.drop(final(h, TOPICS.ad_spend)), "final-missing"),
    "a wrong sum of a hopping window": (lambda h: h.alter(final(h, TOPICS.ad_spend), amount=1), "wrong-total"),
}  # fmt: skip


def _letter(log: Log, topic: str, text: bytes) -> Record:
    (found,) = [letter for letter in log.all(topic) if text in (letter.value or b"")]
    return found


@pytest.mark.parametrize("case", BROKEN)
def test_broken_history_fails_by_name(log: Log, case: str) -> None:
    edit, name = BROKEN[case]
    edit(log)
    report = judge(log)
    assert report.verdict is Verdict.FAIL
    assert name in names(report), report.as_json()
    assert names(report) <= set(VIOLATIONS)
    for stories in report.findings.stories.values():
        for story in stories:
            assert "@" in "".join(story.lines), "a story names the records involved"


def test_every_violation_of_windows_has_a_history_that_shows_it() -> None:
    assert set(OF_WINDOWS) <= {name for _, name in BROKEN.values()}


class Generous(Shop):
    """Completes whatever it is told."""

    def reason(self, value: dict[str, Any], paid: bool) -> str | None:
        return None


class Forgetful(Shop):
    """Does not know what was paid."""

    def reason(self, value: dict[str, Any], paid: bool) -> str | None:
        return super().reason(value, False)


class Confused(Shop):
    """Looks at what was paid first."""

    def reason(self, value: dict[str, Any], paid: bool) -> str | None:
        return "already_paid" if paid else super().reason(value, paid)


class WithoutInbox(Shop):
    """Takes every repeat for an event of its own."""

    inbox = False


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (Generous, "unjustified-posting"),
        (Forgetful, "unjustified-posting"),
        (Confused, "wrong-reason"),
        (WithoutInbox, "duplicate"),
    ],
)
def test_service_with_a_wrong_rule_fails(kind: type[Shop], found: str) -> None:
    report = judge(small(kind))
    assert found in names(report), report.as_json()


# -- what else the verdict depends on ----------------------------------------------------------------------------------


def test_repeats_count_each_where_there_is_no_inbox() -> None:
    log = Log()
    for _ in range(2):
        pay(log, "p", order_id="o")
        click(log, "c")
    WithoutInbox(log, random.Random(2)).run()
    report = judge(log, expect="each")
    assert report.verdict is Verdict.PASS, report.as_json()
    assert (report.payments.completed, report.payments.declined) == (1, {"already_paid": 1})
    assert report.clicks.clicks == 2


def test_two_merchants_may_use_one_event_id_and_one_order() -> None:
    """Both are paid and both orders to deliver are given; they look alike, so the delivery's inbox starts one."""
    log = Log()
    for merchant in ("shop", "stall", "mill"):
        pay(log, "p", order_id="o", merchant=merchant)
    Shop(log, random.Random(3)).run()
    report = judge(log)
    assert report.verdict is Verdict.PASS, report.as_json()
    assert (report.payments.completed, report.payments.started, report.payments.deliveries.duplicates) == (3, 1, 2)


def test_silence_may_close_windows_only_where_the_settings_say_so() -> None:
    log = Log()
    shop = Shop(log, random.Random(4))
    pay(log, "p1", 1)
    shop.run()
    partition = log.all(TOPICS.payment)[0].partition
    shop.totals.silence(partition)
    pay(log, "p2", 2)  # late, although the watermark has not passed
    pay(log, "p3", 61)
    shop.run()
    report = judge(log, idle=True)
    assert report.verdict is Verdict.PASS, report.as_json()
    assert (report.totals_by_window.final, report.totals_by_window.late) == (1, 1)
    assert names(judge(log)) >= {"final-early"}
    log.drop(late(log))
    assert names(judge(log, idle=True)) == {"late-missing"}


def test_silence_closes_windows_that_nobody_was_in() -> None:
    """Another merchant of the partition comes too late for a window that has no row: there is no final of it."""
    log = Log()
    shop = Shop(log, random.Random(5))
    first = next(f"m{n}" for n in range(99) if partition_of(f"m{n}".encode(), PARTITIONS) == 0)
    second = next(f"n{n}" for n in range(99) if partition_of(f"n{n}".encode(), PARTITIONS) == 0)
    pay(log, "p1", 1, merchant=first)
    shop.run()
    shop.totals.silence(0)
    pay(log, "p2", 2, merchant=second)
    shop.run()
    assert judge(log, idle=True).verdict is Verdict.PASS, judge(log, idle=True).as_json()
    assert names(judge(log)) >= {"late-unjustified"}


def test_a_dead_letter_may_move_the_watermark_or_not() -> None:
    """The contract does not say whether a conflict has been seen."""
    for moves in (True, False):
        log = Log()
        shop = Shop(log, random.Random(6))
        for event_id, second in (("p1", 1), ("p1", 71), ("p2", 2)):
            pay(log, event_id, second)
        if moves:
            bury = log.bury

            def seen(record: Record, kind: str, shop: Shop = shop, bury: Any = bury) -> None:
                bury(record, kind)
                shop.totals.see(record.partition, ELEVEN + 71)

            log.bury = seen  # type: ignore[method-assign]
        shop.run()
        assert judge(log).verdict is Verdict.PASS, judge(log).as_json()
        assert bool(log.all(TOPICS.payment_late)) is moves


def test_compacted_revisions_are_unknown_not_wrong(log: Log) -> None:
    log.drop(total(log, 1))
    report = judge(log, compacted_before_ms={TOPICS.payment_totals: log.now_ms + 1})
    assert report.verdict is Verdict.UNKNOWN, report.as_json()
    assert "revisions are gone" in report.reasons[0]


def test_what_the_contract_leaves_open_may_be_refused() -> None:
    log = Log()
    shop = Shop(log, random.Random(7))
    click(log, "c1", cpc=2**63 - 1)
    shop.run()
    shop.log.bury(click(log, "c2", cpc=1), "RecordError")
    shop.log.bury(pay(log, "p1", occurred_at="1969-12-31T23:59:59Z"), "BeforeEpoch")
    report = judge(log)
    assert report.verdict is Verdict.PASS, report.as_json()
    assert "neither allows nor forbids: 2" in report.notes[0]
    click(log, "c3", 600, cpc=1)  # in windows of its own: nothing speaks against it
    shop.log.bury(log.all(TOPICS.click)[-1], "RecordError")
    assert names(judge(log)) == {"dlq-unjustified"}


@pytest.mark.parametrize("check", ["results", "deliveries", "totals", "charges", "revenues", "ad-spend"])
def test_a_check_that_saw_too_little_is_no_pass(log: Log, check: str) -> None:
    report = judge(log, findings=Blinded(check))
    assert report.verdict is Verdict.UNKNOWN
    assert check in report.reasons[0]


# -- many histories ----------------------------------------------------------------------------------------------------


def fill(log: Log, rng: random.Random, size: int = 60) -> None:
    """A random input out of order, with repeats, conflicts and bad records."""
    sent: list[Callable[[], Record]] = []
    for number in range(size):
        second = max(0, number * 12 - (rng.randint(0, 200) if rng.random() < 0.3 else rng.randint(0, 8)))
        if rng.random() < 0.5:
            amount = rng.choice([0, -3, LIMIT, LIMIT + 1]) if rng.random() < 0.2 else rng.randint(1, 60)
            order, merchant = f"o{rng.randint(0, size // 2)}", rng.choice(["shop", "stall", "émile"])
            fields: dict[str, Any] = {"amount": amount, "order_id": order, "merchant": merchant}
            one = lambda f=fields, n=number, s=second, **more: pay(log, f"p{n}", s, **{**f, **more})  # noqa: E731
        else:
            fields = {"cpc": rng.randint(1, 9), "advertiser": rng.choice(["adv", "brand"]),
                      "publisher_id": rng.choice(["pub", "blog"])}  # fmt: skip
            one = lambda f=fields, n=number, s=second, **more: click(log, f"c{n}", s, **{**f, **more})  # noqa: E731
        one()
        sent.append(one)
        chance = rng.random()
        if chance < 0.06:
            rng.choice(sent)()
        elif chance < 0.09:
            rng.choice(sent)(occurred_at=at(number * 12 + 1.5))
        elif chance < 0.12:
            log.append(rng.choice([TOPICS.payment, TOPICS.click]), rng.choice(["shop", "adv"]),
                       rng.choice([b"", b"[1]", b'{"amount": NaN}', b"\xff", None]))  # fmt: skip


@pytest.mark.parametrize("seed", range(120))
def test_correct_histories_pass_and_any_single_edit_fails(seed: int) -> None:
    rng = random.Random(seed)
    log = Log()
    fill(log, rng)
    Shop(log, rng).run()
    good = judge(log)
    assert good.verdict is Verdict.PASS, good.as_json()
    assert good.payments.completed and good.clicks.clicks
    told = any_edit(log, rng)
    report = judge(log)
    assert report.verdict is Verdict.FAIL, told


def any_edit(log: Log, rng: random.Random) -> str:
    """One edit that no correct service could have made; its description."""
    topic = rng.choice([name for name in TOPICS.all if log.all(name)])
    kinds = ["drop", "repeat", "move", "key", "value"]
    if topic in (TOPICS.payment, TOPICS.click):
        target, kinds = rng.choice(_effective(log, topic)), ["drop", "key", "value"]
        if len([r for r in log.all(topic) if r.key == target.key and r.value == target.value]) > 1:
            kinds = ["key"]  # a repeat takes the place of what is dropped: by nature no difference
    else:
        target = rng.choice(log.all(topic))
        if topic in (TOPICS.payment_totals, TOPICS.ad_spend) and not read(target)["final"]:
            own = [r for r in log.all(topic) if r.key == target.key]
            kinds = kinds[1:] if target == own[-1] else kinds  # open: more upserts may come
    kind = rng.choice(kinds)
    told = f"{kind} {target}"
    if kind != "value":
        log.edit(kind, target, rng)
    else:
        told += " " + other_value(log, target, rng)
    return told


def _effective(log: Log, topic: str) -> list[Record]:
    """The first record of each event that had effects."""
    buried = {dict(letter.headers)["dlt-original-offset"] for letter in log.all(topic + "-dlt")}
    first: dict[Any, Record] = {}
    for candidate in log.all(topic):
        if str(candidate.offset).encode() not in buried:
            first.setdefault((candidate.key, read(candidate)["event_id"]), candidate)
    return list(first.values())


def other_value(log: Log, target: Record, rng: random.Random) -> str:
    if target.topic.endswith(("-dlt", "-late")):
        log.replace(target, value=(target.value or b"") + b" ")
        return "bytes"
    value = read(target)
    name = rng.choice(list(value))
    old = value[name]
    if name in ("occurred_at", "window_start", "window_end"):
        new: Any = "2026-01-01T11:00:00.5Z"
    elif isinstance(old, bool):
        new = not old
    elif isinstance(old, int):
        new = old + rng.choice([-1, 1, 1000])
    elif old is None:
        new = "tired"
    else:
        new = old + "x"
    log.alter(target, **{name: new})
    return f"{name} {old!r} -> {new!r}"


@pytest.mark.parametrize("seed", range(60))
def test_cut_through_a_running_service_passes(seed: int) -> None:
    rng = random.Random(seed)
    log = Log()
    fill(log, rng)
    shop = Shop(log, rng)
    for _ in range(rng.randint(5, 80)):
        shop.step()
    cut = {topic: {p: shop.done[topic, p] for p in range(PARTITIONS)} for topic in (TOPICS.payment, TOPICS.click)}
    cut[TOPICS.delivery] = {p: len(log.partitions[TOPICS.delivery][p]) for p in range(PARTITIONS)}
    while any(shop.done[TOPICS.delivery, p] < end for p, end in cut[TOPICS.delivery].items()):
        shop.step()
    ends = {name: [len(part) for part in log.partitions[name]] for name in TOPICS.all}
    for _ in range(rng.randint(0, 10)):  # the inputs are read to a later end than the effects
        shop.step()
    for name in TOPICS.all:
        if name not in cut:
            for part, end in zip(log.partitions[name], ends[name], strict=True):
                del part[end:]
    report = judge(log, cut=Cut(cut))
    assert report.verdict is Verdict.PASS, report.as_json()
    settled = [
        f"{read(r)['event_id']}:status" for r in log.all(TOPICS.delivery) if r.offset < cut[r.topic][r.partition]
    ]
    if settled:
        log.drop(log.one(TOPICS.delivery_status, event_id=rng.choice(settled)))
        assert judge(log, cut=Cut(cut)).verdict is Verdict.FAIL
