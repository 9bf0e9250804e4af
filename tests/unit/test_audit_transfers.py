"""The judge of transfers on made-up histories: correct ones pass, every broken one fails by the right name.

The histories come from a few lines that act as the service does (`Service`), written from the contract and apart
from the judge. Edits by nature invisible are left out on purpose: a repeat of a good transfer in the input (it is
just a repeat), the order of records of different accounts, the order of rejections in their topic, the text of a dead
letter's message, and a rejection's `entries` moved over a credit in another currency.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from streamapp.audit.judge import Judge
from streamapp.audit.partitioner import partition_of
from streamapp.audit.record import Record
from streamapp.audit.report import CHECKS, VIOLATIONS, Findings, Report, Verdict
from streamapp.audit.terms import Cut, Expect, Terms

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from histories import OF_WINDOWS, PARTITIONS, TOPICS, Blinded, Log, elsewhere, names, read

Edit = Callable[[Log], None]
TIME = "2026-01-01T11:00:00Z"
#: The checks and violations of transfers; the others have histories of their own.
OWN_CHECKS = ("transfers", "legs", "order", "upserts", "cover", "rejections", "dead letters", "placement", "money")


def send(log: Log, event_id: str, sender: str, receiver: str, amount: Any, currency: str = "EUR", **other: Any) -> None:
    """A record of `transfer`."""
    placed = {"partition": other.pop("partition", None)}
    value = {"event_id": event_id, "from_account": sender, "to_account": receiver, "amount": amount,
             "currency": currency, "occurred_at": TIME, **other}  # fmt: skip
    log.append(TOPICS.transfer, other.pop("key", sender), value, **placed)


class Service:
    """What a correct worker does, one event at a time, the partitions in any order."""

    def __init__(self, log: Log, rng: random.Random, *, inbox: bool = True) -> None:
        self.log, self.rng, self.inbox = log, rng, inbox
        self.accounts: dict[str, tuple[dict[str, int], int]] = {}
        self.marks: dict[tuple[str, str], str] = {}
        self.done = {(topic, p): 0 for topic in (TOPICS.transfer, TOPICS.balances) for p in range(PARTITIONS)}

    def step(self) -> bool:
        """One event of one partition; False when there is none left."""
        ready = [at for at, offset in self.done.items() if offset < len(self.log.partitions[at[0]][at[1]])]
        if not ready:
            return False
        topic, partition = self.rng.choice(ready)
        record = self.log.partitions[topic][partition][self.done[topic, partition]]
        self.done[topic, partition] += 1
        if topic == TOPICS.transfer:
            self.transfer(record)
        else:
            leg = read(record)
            if leg["leg"] == "credit":
                self.apply(leg)
        return True

    def run(self) -> None:
        while self.step():
            pass

    def transfer(self, record: Record) -> None:
        try:
            value = read(record)
            _ = value["from_account"] + value["to_account"] + value["currency"] + value["occurred_at"]
            assert type(value["amount"]) is int
        except (ValueError, KeyError, TypeError, AssertionError):
            return self.bury(record, "MalformedRecord")
        if (value["from_account"]).encode() != record.key:
            return self.bury(record, "KeyMismatch")
        if record.partition != partition_of(record.key, PARTITIONS):
            return self.bury(record, "WrongPartition")
        if datetime.fromisoformat(value["occurred_at"]).timestamp() * 1000 > record.timestamp_ms + 3_600_000:
            return self.bury(record, "TooFarAhead")
        mark, content = (value["from_account"], value["event_id"]), json.dumps(value)
        if self.inbox and mark in self.marks:
            return None if self.marks[mark] == content else self.bury(record, "EventIdConflict")
        self.marks[mark] = content
        return self.decide(value, {"posting": f"{record.partition}-{record.offset}"})

    def decide(self, t: dict[str, Any], posting: dict[str, str]) -> None:
        sender, receiver, amount, currency = t["from_account"], t["to_account"], t["amount"], t["currency"]
        balances, entries = self.accounts.get(sender, ({}, 0))
        balance = balances.get(currency, 0)
        if reason := self.reason(t, balance):
            self.log.append(TOPICS.rejected, sender, {
                **t, "event_id": t["event_id"] + ":rejected", "transfer_id": t["event_id"], "reason": reason,
                "balance": balance, "entries": entries,
            })  # fmt: skip
            return
        for leg, account, other, signed in (("debit", sender, receiver, -amount), ("credit", receiver, sender, amount)):
            self.log.append(TOPICS.balances, account, {
                "event_id": f"{t['event_id']}:{leg}", "transfer_id": t["event_id"], "leg": leg, "account": account,
                "counterparty": other, "amount": signed, "currency": currency, "occurred_at": t["occurred_at"],
                **posting,
            })  # fmt: skip
            if leg == "debit":
                self.apply(
                    json.loads(
                        self.log.partitions[TOPICS.balances][partition_of(sender.encode(), PARTITIONS)][-1].value or b""
                    )
                )

    def reason(self, t: dict[str, Any], balance: int) -> str | None:
        if t["amount"] <= 0:
            return "amount_not_positive"
        if t["from_account"] == t["to_account"]:
            return "same_account"
        return "insufficient_funds" if balance < t["amount"] and t["from_account"][0] != "@" else None

    def apply(self, leg: dict[str, Any]) -> None:
        balances, entries = self.accounts.get(leg["account"], ({}, 0))
        balances = balances | {leg["currency"]: balances.get(leg["currency"], 0) + leg["amount"]}
        self.accounts[leg["account"]] = balances, entries + 1
        self.log.append(TOPICS.account_balances, leg["account"], {
            "account": leg["account"], "balances": balances, "entries": entries + 1, "transfer_id": leg["transfer_id"],
            "leg": leg["leg"], "updated_at": leg["occurred_at"],
        })  # fmt: skip

    def bury(self, record: Record, kind: str) -> None:
        # The names of errors may be long or short; here are both.
        self.log.bury(record, kind if record.topic == TOPICS.balances else f"streamapp.errors.{kind}")


def judge(log: Log, *, expect: Expect = "once", cut: Cut | None = None, findings: Findings | None = None) -> Report:
    terms = Terms(dict.fromkeys(TOPICS.all, PARTITIONS), expect=expect, cut=cut or Cut())
    made = Judge(terms, findings)
    made.read(log.records())
    return made.judgement()


# -- a small history by hand -------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> Log:
    return small(Service)


def small(kind: type[Service]) -> Log:
    """Funds for ann and bob, a payment each way, three rejections, one of each kind of bad record, one repeat."""
    log = Log()
    service = kind(log, random.Random(1))
    far = (partition_of(b"ann", PARTITIONS) + 1) % PARTITIONS
    for event_id, sender, receiver, amount, other in (
        ("fund-ann", "@bank", "ann", 1000, {}),
        ("fund-bob", "@bank", "bob", 500, {}),
        ("dollars", "@bank", "ann", 70, {"currency": "USD"}),
        ("rent", "ann", "bob", 600, {}),
        ("more", "ann", "bob", 401, {}),  # one more than is left
        ("usd", "ann", "bob", 71, {"currency": "USD"}),
        ("nothing", "ann", "bob", 0, {}),
        ("self", "bob", "bob", 10_000, {}),
        ("back", "bob", "ann", 100, {}),
        ("minus", "bob", "bob", -1, {}),  # two reasons: the first of the precedence
        ("rent", "ann", "bob", 600, {}),  # a repeat
        ("rent", "ann", "bob", 601, {}),  # a conflict
        ("text", "ann", "bob", "12", {}),
        ("key", "ann", "bob", 5, {"key": "bob"}),
        ("far", "ann", "bob", 5, {"partition": far}),
        ("hour", "@bank", "cid", 5, {"occurred_at": "2026-01-01T13:00:00Z"}),  # less than an hour ahead by now
        ("future", "@bank", "cid", 5, {"occurred_at": "2026-01-01T13:00:01Z"}),
    ):
        send(log, event_id, sender, receiver, amount, **other)
        service.run()
    log.append(TOPICS.transfer, "ann", b"{nonsense")
    service.run()
    return log


def lose(log: Log) -> None:
    for side in ("debit", "credit"):
        log.drop(leg(log, "back", side))


def leg(log: Log, transfer_id: str, side: str) -> Record:
    return log.one("balances", transfer_id=transfer_id, leg=side)


def upsert(log: Log, transfer_id: str, side: str) -> Record:
    return log.one("account-balances", transfer_id=transfer_id, leg=side)


def refusal(log: Log, transfer_id: str) -> Record:
    return log.one("transfer-rejected", transfer_id=transfer_id)


def letter(log: Log, kind: str) -> Record:
    (found,) = [
        r
        for r in log.all("transfer-dlt")
        if dict(r.headers)["dlt-exception-fqcn"] == f"streamapp.errors.{kind}".encode()
    ]
    return found


def say(name: str, text: str) -> Edit:
    """Change what the dead letter of a KeyMismatch says."""

    def edit(log: Log) -> None:
        target = letter(log, "KeyMismatch")
        log.replace(target, headers=tuple({**dict(target.headers), f"dlt-{name}": text.encode()}.items()))

    return edit


def bury(find: Callable[[Log], Record], kind: str) -> Edit:
    """Dead-letter a record of any kind."""
    return lambda log: Service(log, random.Random(1)).bury(find(log), kind)


def test_correct_history_passes_and_says_what_it_examined(log: Log) -> None:
    report = judge(log)
    assert report.verdict is Verdict.PASS, report.as_json()
    assert all(report.findings.examined[check] for check in OWN_CHECKS)
    assert set(OWN_CHECKS) < set(CHECKS)
    summary = report.summary
    assert (summary.records_in, summary.posted, summary.duplicates, summary.conflicts) == (18, 6, 1, 1)
    assert summary.rejected == {"insufficient_funds": 2, "amount_not_positive": 2, "same_account": 1}
    assert summary.dead_letters == 6  # the conflict among them
    assert report.balance("ann", "EUR") == 500
    assert report.balance("nobody", "EUR") == 0
    assert report.totals == {"EUR": 0, "USD": 0}
    assert "that repeat an event id" in report.notes[0]


BROKEN: dict[str, tuple[Edit, str]] = {
    "missing debit leg": (lambda h: h.drop(leg(h, "rent", "debit")), "torn-unit"),
    "missing credit leg": (lambda h: h.drop(leg(h, "rent", "credit")), "torn-unit"),
    "doubled leg": (lambda h: h.repeat(leg(h, "rent", "credit")), "duplicate"),
    "doubled debit": (lambda h: h.repeat(leg(h, "fund-ann", "debit")), "duplicate"),
    "changed amount": (lambda h: h.alter(leg(h, "rent", "credit"), amount=601), "changed"),
    "money created": (lambda h: h.alter(leg(h, "rent", "credit"), amount=601), "money-created"),
    "money destroyed": (lambda h: h.drop(leg(h, "rent", "credit")), "money-destroyed"),
    "changed currency": (lambda h: h.alter(leg(h, "rent", "debit"), currency="USD"), "changed"),
    "posting of another": (lambda h: h.alter(leg(h, "rent", "credit"), posting="0-99"), "changed"),
    "posting that is no text": (lambda h: h.alter(leg(h, "rent", "credit"), posting=7), "torn-unit"),
    "changed counterparty": (lambda h: h.alter(leg(h, "rent", "debit"), counterparty="eve"), "changed"),
    "changed leg time": (
        lambda h: h.alter(leg(h, "rent", "debit"), occurred_at="2026-01-01T11:00:00.000001Z"),
        "changed",
    ),
    "changed leg id": (lambda h: h.alter(leg(h, "rent", "debit"), event_id="rent"), "changed"),
    "missing upsert": (lambda h: h.drop(upsert(h, "back", "debit")), "missing-upsert"),
    "missing last upsert": (lambda h: h.drop(_last_upsert(h, b"ann")), "missing-upsert"),
    "gap by a missing upsert": (lambda h: h.drop(upsert(h, "fund-ann", "credit")), "order-gap"),
    "doubled upsert": (lambda h: h.repeat(upsert(h, "back", "debit")), "duplicate"),
    "upsert without its leg": (lambda h: h.drop(leg(h, "rent", "credit")), "phantom"),
    "phantom leg": (
        lambda h: h.append(
            "balances",
            "ann",
            {
                "event_id": "x:debit",
                "transfer_id": "x",
                "leg": "debit",
                "account": "ann",
                "counterparty": "bob",
                "amount": -5,
                "currency": "EUR",
                "occurred_at": TIME,
            },
        ),
        "phantom",
    ),
    "phantom upsert": (
        lambda h: h.append(
            "account-balances",
            "ann",
            {
                "account": "ann",
                "balances": {"EUR": 0},
                "entries": 9,
                "transfer_id": "x",
                "leg": "debit",
                "updated_at": TIME,
            },
        ),
        "phantom",
    ),
    "phantom rejection": (lambda h: h.alter(refusal(h, "self"), transfer_id="x", event_id="x:rejected"), "phantom"),
    "refused with a wrong balance": (lambda h: h.alter(refusal(h, "more"), balance=399), "unjustified-refusal"),
    "refused with unseen entries": (lambda h: h.alter(refusal(h, "more"), entries=99), "unjustified-refusal"),
    "wrong reason": (lambda h: h.alter(refusal(h, "minus"), reason="same_account"), "wrong-reason"),
    "unknown reason": (lambda h: h.alter(refusal(h, "self"), reason="bored"), "wrong-reason"),
    "changed rejection": (lambda h: h.alter(refusal(h, "self"), amount=1), "changed"),
    "doubled rejection": (lambda h: h.repeat(refusal(h, "self")), "duplicate"),
    "refused and posted": (
        lambda h: h.append(
            "transfer-rejected",
            "ann",
            {**read(refusal(h, "more")), "event_id": "rent:rejected", "transfer_id": "rent", "amount": 600},
        ),
        "refused-and-posted",
    ),
    "posted without an amount": (
        lambda h: h.alter(h.one("transfer", event_id="back"), amount=0),
        "unjustified-posting",
    ),
    "wrong key of a leg": (lambda h: h.replace(leg(h, "rent", "credit"), key=b"ann"), "misplaced"),
    "wrong partition of a leg": (
        lambda h: h.move(leg(h, "back", "credit"), elsewhere(leg(h, "back", "credit"))),
        "misplaced",
    ),
    "wrong key of an upsert": (lambda h: h.replace(upsert(h, "rent", "credit"), key=b"eve"), "misplaced"),
    "wrong key of a rejection": (lambda h: h.replace(refusal(h, "self"), key=None), "misplaced"),
    "lost": (lambda h: h.drop(refusal(h, "self")), "lost"),
    "lost posting": (lose, "lost"),
    "input gone": (lambda h: h.drop(h.one("transfer", event_id="back")), "phantom"),
    "no dead letter": (lambda h: h.drop(letter(h, "KeyMismatch")), "dlq-missing"),
    "no dead letter for the future": (lambda h: h.drop(letter(h, "TooFarAhead")), "dlq-missing"),
    "no dead letter for a conflict": (lambda h: h.drop(letter(h, "EventIdConflict")), "dlq-missing"),
    "dead letter for a good record": (bury(lambda h: h.one("transfer", event_id="back"), "Any"), "dlq-unjustified"),
    "dead letter for a repeat": (bury(lambda h: _repeat(h), "EventIdConflict"), "dlq-unjustified"),
    "dead letter of nothing": (say("original-offset", "999"), "phantom"),
    "dead letter without a source": (lambda h: h.replace(letter(h, "KeyMismatch"), headers=()), "phantom"),
    "doubled dead letter": (lambda h: h.repeat(letter(h, "KeyMismatch")), "duplicate"),
    "changed bytes in a dead letter": (lambda h: h.replace(letter(h, "WrongPartition"), value=b"{}"), "dlq-altered"),
    "null dead letter": (lambda h: h.replace(letter(h, "WrongPartition"), value=None), "dlq-altered"),
    "changed key of a dead letter": (lambda h: h.replace(letter(h, "WrongPartition"), key=b"eve"), "dlq-altered"),
    "wrong kind of a dead letter": (say("exception-fqcn", "a.WrongPartition"), "dlq-altered"),
    "wrong group in a dead letter": (say("original-consumer-group", "x"), "dlq-altered"),
    "wrong time in a dead letter": (say("original-timestamp", "1"), "dlq-altered"),
    "wrong partition of a dead letter": (
        lambda h: h.move(letter(h, "KeyMismatch"), elsewhere(letter(h, "KeyMismatch"))),
        "dlq-altered",
    ),
    "long message in a dead letter": (say("exception-message", "x" * 1025), "dlq-altered"),
    "garbage in balances": (lambda h: h.append("balances", "ann", b"?"), "dlq-missing"),
    "garbage in account-balances": (lambda h: h.append("account-balances", "ann", b"?"), "malformed"),
    "garbage in transfer-rejected": (lambda h: h.append("transfer-rejected", "ann", b"[]"), "malformed"),
    "dead letter of a leg": (bury(lambda h: leg(h, "rent", "credit"), "EventIdConflict"), "dlq-unjustified"),
    "wrong entries": (lambda h: h.alter(upsert(h, "back", "debit"), entries=7), "order-gap"),
    "wrong balance": (lambda h: h.alter(upsert(h, "fund-bob", "credit"), balances={"EUR": 501}), "table-not-fold"),
    "a currency too many": (
        lambda h: h.alter(upsert(h, "fund-bob", "credit"), balances={"EUR": 500, "USD": 1}),
        "table-not-fold",
    ),
    "wrong updated_at": (lambda h: h.alter(upsert(h, "rent", "credit"), updated_at="2026-01-01T11:00:01Z"), "changed"),
    "swapped debits": (lambda h: h.swap(leg(h, "fund-ann", "debit"), leg(h, "fund-bob", "debit")), "order-inversion"),
    "credits applied out of order": (
        lambda h: h.swap(leg(h, "fund-ann", "credit"), leg(h, "dollars", "credit")),
        "order-inversion",
    ),
    "rejected out of order": (lambda h: h.alter(refusal(h, "more"), entries=2, balance=1000), "order-inversion"),
    "rejected behind a younger transfer": (
        lambda h: h.alter(refusal(h, "self"), entries=3, balance=1000),
        "order-inversion",
    ),
}


def _last_upsert(log: Log, key: bytes) -> Record:
    return max((r for r in log.all("account-balances") if r.key == key), key=lambda r: read(r)["entries"])


def _repeat(log: Log) -> Record:
    return [r for r in log.all("transfer") if b'"rent"' in (r.value or b"") and b"600" in (r.value or b"")][1]


def test_balances_may_leave_64_bits() -> None:
    log, largest = Log(), 2**63 - 1
    service = Service(log, random.Random(1))
    for event_id, sender, receiver, amount in (
        ("first", "@bank", "ann", largest),
        ("second", "@bank", "ann", largest),
        ("self", "@bank", "@bank", 1),
        ("out", "ann", "bob", largest),
    ):
        send(log, event_id, sender, receiver, amount)
        service.run()
    assert read(log.one(TOPICS.rejected))["balance"] == -2 * largest
    assert judge(log).verdict is Verdict.PASS, judge(log).as_json()
    log.alter(upsert(log, "second", "credit"), balances={"EUR": 2 * largest + 1})
    assert "table-not-fold" in names(judge(log))


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
            assert "@" in "".join(story.lines) or story.name.startswith("money"), "a story names the records involved"


class Generous(Service):
    """Lets everyone overdraw."""

    def reason(self, t: dict[str, Any], balance: int) -> str | None:
        return super().reason(t, 10**9)


class Mean(Service):
    """Refuses who has just enough."""

    def reason(self, t: dict[str, Any], balance: int) -> str | None:
        return super().reason(t, balance - 600)


class Confused(Service):
    """Looks at the balance first."""

    def reason(self, t: dict[str, Any], balance: int) -> str | None:
        return "insufficient_funds" if balance < t["amount"] else super().reason(t, balance)


class Blind(Service):
    """Posts whatever it is told."""

    def reason(self, t: dict[str, Any], balance: int) -> str | None:
        return None


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (Generous, {"overdraft"}),
        (Mean, {"unjustified-refusal"}),
        (Confused, {"wrong-reason", "unjustified-refusal"}),
        (Blind, {"overdraft", "unjustified-posting"}),
    ],
)
def test_service_with_a_wrong_rule_fails_by_exactly_that(kind: type[Service], found: set[str]) -> None:
    report = judge(small(kind))
    assert names(report) == found, report.as_json()


def test_every_violation_has_a_history_that_shows_it() -> None:
    assert {name for _, name in BROKEN.values()} | {"overdraft"} == set(VIOLATIONS) - set(OF_WINDOWS)


# -- what else the verdict depends on ----------------------------------------------------------------------------------


def test_nothing_examined_is_unknown() -> None:
    report = judge(Log())
    assert report.verdict is Verdict.UNKNOWN
    assert "nothing was examined" in report.reasons[0]


def test_range_without_transfers_is_unknown(log: Log) -> None:
    report = judge(log, findings=Findings(since_ms=log.now_ms + 1))
    assert report.verdict is Verdict.UNKNOWN


def test_range_leaves_out_what_belongs_to_other_transfers(log: Log) -> None:
    rent = log.one("transfer", event_id="back")
    log.alter(upsert(log, "fund-bob", "credit"), updated_at="2026-01-01T11:00:01Z")
    assert judge(log, findings=Findings(until_ms=rent.timestamp_ms)).verdict is Verdict.FAIL
    later = judge(log, findings=Findings(since_ms=rent.timestamp_ms))
    assert later.verdict is Verdict.PASS
    assert later.findings.examined["transfers"] < judge(log).findings.examined["transfers"]


def test_a_check_that_saw_too_little_is_no_pass(log: Log) -> None:
    report = judge(log, findings=Blinded("upserts"))
    assert report.verdict is Verdict.UNKNOWN
    assert "upserts" in report.reasons[0]


def test_stories_are_bounded_but_counted() -> None:
    log = Log()
    for number in range(50):
        send(log, f"t{number}", "@bank", "ann", 1)
    report = judge(log, findings=Findings(stories_kept=3))
    assert report.findings.named["lost"] == 50
    assert len(report.findings.stories["lost"]) == 3


def test_repeats_count_once_or_each_as_expected() -> None:
    log = Log()
    for _ in range(3):
        send(log, "t", "@bank", "ann", 5)
    send(log, "t", "@bank", "ann", 6)
    Service(log, random.Random(2), inbox=False).run()
    each = judge(log, expect="each")
    assert (each.verdict, each.summary.posted, each.balance("ann", "EUR")) == (Verdict.PASS, 4, 21)
    assert "each is a transfer of its own" in each.notes[0]
    once = judge(log)
    assert once.verdict is Verdict.FAIL
    assert {"duplicate", "dlq-missing"} <= names(once)


def test_repeat_behind_the_inbox_retention_is_a_new_transfer() -> None:
    log = Log()
    send(log, "t", "@bank", "ann", 5)
    service = Service(log, random.Random(3))
    service.run()
    log.now_ms += 8 * 86_400_000
    service.marks.clear()
    send(log, "t", "@bank", "ann", 5)
    service.run()
    report = judge(log)
    assert (report.verdict, report.summary.posted) == (Verdict.PASS, 2), report.as_json()


@pytest.mark.parametrize("seed", range(20))
def test_one_id_from_several_senders_is_several_transfers(seed: int) -> None:
    """Whatever partition is first: the legs find their own transfers."""
    log = Log()
    senders = ["@bank", "@other", "@till", "@third"]
    for amount, sender in enumerate(senders, 5):
        send(log, "t", sender, "ann", amount)
    Service(log, random.Random(seed)).run()
    report = judge(log)
    assert (report.verdict, report.summary.posted, report.summary.duplicates) == (Verdict.PASS, 4, 0), report.as_json()


def test_repeat_that_ends_otherwise_than_the_first_passes_as_each() -> None:
    log = Log()
    service = Service(log, random.Random(6), inbox=False)
    for event_id, sender, receiver in (("t", "ann", "bob"), ("fund", "@bank", "ann"), ("t", "ann", "bob")):
        send(log, event_id, sender, receiver, 5)
        service.run()
    report = judge(log, expect="each")
    assert (report.verdict, report.summary.posted) == (Verdict.PASS, 2), report.as_json()
    assert report.summary.rejected == {"insufficient_funds": 1}


def test_nothing_about_a_value_is_left_open() -> None:
    log = Log()
    send(log, "", "@bank", "ann", 5)
    send(log, "t", "@bank", "ann", 5, occurred_at="2026-01-01T12:00:00+01:00")
    service = Service(log, random.Random(5))
    for source in log.all("transfer"):
        service.bury(source, "MalformedRecord")
    report = judge(log)
    assert report.reasons == ["dlq-unjustified: 1"], report.as_json()


def test_compacted_log_is_unknown_not_wrong(log: Log) -> None:
    log.drop(upsert(log, "fund-ann", "credit"))
    terms = Terms(dict.fromkeys(TOPICS.all, PARTITIONS), compacted_before_ms={TOPICS.account_balances: log.now_ms + 1})
    made = Judge(terms)
    made.read(log.records())
    report = made.judgement()
    assert report.verdict is Verdict.UNKNOWN, report.as_json()
    assert "compacted" in report.reasons[0]


def test_topics_out_of_order_are_refused(log: Log) -> None:
    made = Judge(Terms(dict.fromkeys(TOPICS.all, PARTITIONS)))
    with pytest.raises(ValueError, match="order"):
        made.read(reversed(list(log.records())))


# -- many histories ----------------------------------------------------------------------------------------------------

ACCOUNTS = ["@bank", "@till", "ann", "bob", "cid", "dora", "émile"]


def fill(log: Log, rng: random.Random, size: int = 60) -> None:
    """A random input: good transfers, some impossible, some repeated, some in conflict, some bad."""
    sent = []
    for number in range(size):
        sender = rng.choice(ACCOUNTS[:2] if number < 8 or rng.random() < 0.2 else ACCOUNTS)
        amount = rng.choice([0, -3]) if rng.random() < 0.05 else rng.randint(1, 60)
        transfer = (f"t{number}", sender, rng.choice(ACCOUNTS), amount, rng.choice(["EUR", "EUR", "USD"]))
        sent.append(transfer)
        send(log, *transfer)
        chance = rng.random()
        if chance < 0.05:
            send(log, *rng.choice(sent))
        elif chance < 0.08:
            event_id, sender, receiver, amount, currency = rng.choice(sent)
            send(log, event_id, sender, receiver, amount + 1, currency)
        elif chance < 0.12:
            log.append(
                TOPICS.transfer, rng.choice(ACCOUNTS), rng.choice([b"", b"[1]", b'{"amount": NaN}', b"\xff", None])
            )
        elif chance < 0.14:
            send(log, f"k{number}", "ann", "bob", 1, key="dora")


@pytest.mark.parametrize("seed", range(150))
def test_correct_histories_pass_and_any_single_edit_fails(seed: int) -> None:
    rng = random.Random(seed)
    log = Log()
    fill(log, rng)
    Service(log, rng).run()
    good = judge(log)
    assert good.verdict is Verdict.PASS, good.as_json()
    assert good.summary.posted and good.summary.rejected
    told = any_edit(log, rng)
    report = judge(log)
    assert report.verdict is Verdict.FAIL, told


def any_edit(log: Log, rng: random.Random) -> str:
    """One edit that no correct service could have made; its description."""
    topic = rng.choice([name for name in TOPICS.all if log.all(name)])
    target = rng.choice(log.all(topic))
    kinds = ["drop", "repeat", "move", "key", "value"]
    if topic == TOPICS.transfer:
        effective = {read(r)["transfer_id"] for name in ("balances", "transfer-rejected") for r in log.all(name)}
        first: dict[Any, Record] = {}
        for candidate in log.all(topic):
            try:
                value = read(candidate)
                if value["event_id"] in effective:
                    first.setdefault((candidate.key, value["event_id"]), candidate)
            except (ValueError, KeyError, TypeError):
                pass
        target, kinds = rng.choice(list(first.values())), ["drop", "key", "value"]
        repeats = [r for r in log.all(topic) if r.key == target.key and r.value == target.value]
        if len(repeats) > 1:  # a repeat takes the place of what is dropped: by nature no difference
            kinds = ["value"] if topic != TOPICS.transfer else ["key"]
    kind = rng.choice(kinds)
    told = f"{kind} {target}"
    if kind != "value":
        log.edit(kind, target, rng)
    else:
        told += " " + other_value(log, target, rng)
    return told


def other_value(log: Log, target: Record, rng: random.Random) -> str:
    if target.topic.endswith("-dlt"):
        log.replace(target, value=(target.value or b"") + b" ")
        return "bytes"
    value = read(target)
    name = rng.choice([name for name in value if target.topic != TOPICS.rejected or name != "entries"])
    old = value[name]
    if name in ("occurred_at", "updated_at"):
        new: Any = "2026-01-01T11:00:00.5Z"
    elif name == "balances":
        currency = rng.choice(list(old))
        new = old | {currency: old[currency] + rng.choice([-1, 1])}
    elif isinstance(old, int):
        new = old + rng.choice([-1, 1, 1000])
    else:
        new = {"debit": "credit", "credit": "debit"}.get(old, old + "x")
    log.alter(target, **{name: new})
    return f"{name} {old!r} -> {new!r}"


@pytest.mark.parametrize("seed", range(60))
def test_cut_through_a_running_service_passes(seed: int) -> None:
    rng = random.Random(seed)
    log = Log()
    fill(log, rng)
    service = Service(log, rng)
    for _ in range(rng.randint(5, 60)):
        service.step()
    transfers = {p: service.done[TOPICS.transfer, p] for p in range(PARTITIONS)}
    legs = {p: len(log.partitions[TOPICS.balances][p]) for p in range(PARTITIONS)}
    while any(service.done[TOPICS.balances, p] < end for p, end in legs.items()):
        service.step()
    ends = {name: [len(part) for part in log.partitions[name]] for name in TOPICS.all}
    for _ in range(rng.randint(0, 10)):  # the inputs are read to a later end than the effects
        service.step()
    for name in TOPICS.all:
        if name not in (TOPICS.transfer, TOPICS.balances):
            for part, end in zip(log.partitions[name], ends[name], strict=True):
                del part[end:]
    report = judge(log, cut=Cut({TOPICS.transfer: transfers, TOPICS.balances: legs}))
    assert report.verdict is Verdict.PASS, report.as_json()
    due = [r for r in log.all(TOPICS.balances) if r.offset < legs[r.partition]]
    log.drop(rng.choice([r for r in log.all(TOPICS.account_balances) if _settled(r, due)]))
    assert judge(log, cut=Cut({TOPICS.transfer: transfers, TOPICS.balances: legs})).verdict is Verdict.FAIL


def _settled(record: Record, due: list[Record]) -> bool:
    """Whether the upsert's leg is below the cut."""
    value = read(record)
    legs = [read(leg) for leg in due]
    return any(leg["transfer_id"] == value["transfer_id"] and leg["leg"] == value["leg"] for leg in legs)
