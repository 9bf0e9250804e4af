"""The auditor on real Kafka: topics written by hand with librdkafka's producer, the command run as people run it.

The producer's own murmur2 places the records, so the auditor's is checked against an implementation that is not ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streamapp.audit import Report, Topics, Verdict, audit

pytestmark = pytest.mark.kafka

PARTITIONS = 2
TIME = "2026-01-01T11:00:00Z"


@dataclass
class Ledger:
    """A test's own topics, a producer that plays the service, and the service's consumer group."""

    bootstrap: str
    prefix: str
    topics: Topics = field(init=False)
    producer: Any = field(init=False)
    admin: Any = field(init=False)

    def __post_init__(self) -> None:
        self.topics = Topics.prefixed(self.prefix)
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap})
        self.producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "partitioner": "murmur2",
                "transactional.id": f"{self.prefix}writer",
                "transaction.timeout.ms": 60_000,
                "linger.ms": 0,
            }
        )

    def create(self) -> None:
        config = {"message.timestamp.type": "LogAppendTime"}
        compact = {**config, "cleanup.policy": "compact", "min.compaction.lag.ms": "604800000"}
        made = self.admin.create_topics(
            [
                NewTopic(name, PARTITIONS, 1, config=compact if name == self.topics.account_balances else config)
                for name in self.topics.all
            ]
        )
        for answer in made.values():
            answer.result(60)
        self.producer.init_transactions(60)

    def send(self, topic: str, key: str, value: dict[str, Any] | bytes, **more: Any) -> None:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.producer.produce(topic, key=key, value=raw, **more)

    def transfer(self, event_id: str, sender: str, receiver: str, amount: int) -> dict[str, Any]:
        value = {"event_id": event_id, "from_account": sender, "to_account": receiver, "amount": amount,
                 "currency": "EUR", "occurred_at": TIME}  # fmt: skip
        self.send(self.topics.transfer, sender, value)
        return value

    def leg(self, value: dict[str, Any], side: str) -> None:
        mine, other = ("from_account", "to_account") if side == "debit" else ("to_account", "from_account")
        amount = -value["amount"] if side == "debit" else value["amount"]
        self.send(self.topics.balances, value[mine], {
            "event_id": f"{value['event_id']}:{side}", "transfer_id": value["event_id"], "leg": side,
            "account": value[mine], "counterparty": value[other], "amount": amount, "currency": "EUR",
            "occurred_at": TIME,
        })  # fmt: skip

    def upsert(self, transfer_id: str, side: str, account: str, balance: int, entries: int) -> None:
        self.send(self.topics.account_balances, account, {
            "account": account, "balances": {"EUR": balance}, "entries": entries, "transfer_id": transfer_id,
            "leg": side, "updated_at": TIME,
        })  # fmt: skip

    def history(self) -> None:
        """Two transfers posted, one refused, over accounts in both partitions."""
        fund = self.transfer("fund", "@bank", "émile", 100)
        pay = self.transfer("pay", "émile", "ann", 60)
        much = self.transfer("much", "émile", "ann", 41)
        for value in (fund, pay):
            self.leg(value, "debit")
            self.leg(value, "credit")
        self.upsert("fund", "debit", "@bank", -100, 1)
        self.upsert("fund", "credit", "émile", 100, 1)
        self.upsert("pay", "debit", "émile", 40, 2)
        self.upsert("pay", "credit", "ann", 60, 1)
        self.send(self.topics.rejected, "émile", {
            **much, "event_id": "much:rejected", "transfer_id": "much", "reason": "insufficient_funds",
            "balance": 40, "entries": 2,
        })  # fmt: skip

    def transaction(self, *, commit: bool = True) -> _Transaction:
        return _Transaction(self.producer, commit)

    def consumed(self, *, less: int = 0) -> None:
        """Commit, as the service's group, what is there; `less` records of each partition are left.

        One less is where a transactional input's group stands when the rest is a transaction's mark.
        """
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.prefix + "app"})
        try:
            offsets = []
            for topic in (self.topics.transfer, self.topics.balances):
                for number in range(PARTITIONS):
                    _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=60)
                    offsets.append(TopicPartition(topic, number, max(end - less, 0)))
            consumer.commit(offsets=offsets, asynchronous=False)
        finally:
            consumer.close()

    def audit(self, **more: Any) -> Report:
        settings = {"wait_s": 0.0, "group": self.prefix + "app", "topics": self.topics, **more}
        return audit({"bootstrap.servers": self.bootstrap}, **settings)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`streamapp audit` in a pipe."""
        return subprocess.run(
            [sys.executable, "-c", "from streamapp.cli.main import main; main()", "audit", "--wait", "0",
             "--topic-prefix", self.prefix, *arguments],
            env={**os.environ, "STREAMAPP_BROKER": self.bootstrap, "STREAMAPP_ID": self.prefix + "app"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


@dataclass
class _Transaction:
    producer: Any
    commit: bool

    def __enter__(self) -> None:
        self.producer.begin_transaction()

    def __exit__(self, *_: object) -> None:
        assert self.producer.flush(60) == 0
        if self.commit:
            self.producer.commit_transaction(20)
        else:
            self.producer.abort_transaction(20)


@pytest.fixture
def ledger(kafka: Any, topic_prefix: str) -> Iterator[Ledger]:
    made = Ledger(kafka.bootstrap, f"{topic_prefix}-")
    made.create()
    yield made


def test_correct_topics_pass_and_aborted_records_are_not_seen(ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.history()
    with ledger.transaction(commit=False):
        ledger.leg({"event_id": "x", "from_account": "ann", "to_account": "bob", "amount": 1}, "debit")
    ledger.consumed(less=1)  # what is left are marks of transactions: no lag
    report = ledger.command()
    assert report.returncode == 0, report
    assert report.stdout.splitlines()[-1].startswith("PASS  3 transfers judged")
    assert "\x1b" not in report.stdout and not report.stderr
    told = json.loads(ledger.command("--json").stdout)
    assert (told["verdict"], told["transfers"]["posted"], told["transfers"]["rejected"]) == (
        "PASS", 2, {"insufficient_funds": 1},
    )  # fmt: skip
    assert ledger.audit().balance("émile", "EUR") == 40


def test_doubled_leg_fails_with_its_story(ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.history()
        ledger.leg({"event_id": "pay", "from_account": "émile", "to_account": "ann", "amount": 60}, "credit")
    ledger.consumed(less=1)  # only the mark of the transaction is left: that is no lag
    report = ledger.command()
    assert report.returncode == 1, report
    assert "duplicate x 1" in report.stdout
    assert f"{ledger.topics.balances}[" in report.stdout and "money-created" in report.stdout
    assert report.stdout.splitlines()[-1].startswith("FAIL")
    assert json.loads(ledger.command("--json").stdout)["violations"][0]["stories"]


def test_open_transaction_is_unknown_and_waited_for(ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.history()
    ledger.consumed()
    ledger.producer.begin_transaction()
    ledger.transfer("open", "@bank", "ann", 1)
    assert ledger.producer.flush(60) == 0
    report = ledger.command()
    assert report.returncode == 2, report
    assert f"a transaction is open at {ledger.topics.transfer}[" in report.stdout
    seen = []

    def abort(text: str, done: int, total: int) -> None:
        if not seen:
            seen.append(text)
            ledger.producer.abort_transaction(20)
            ledger.consumed()

    assert ledger.audit(wait_s=20.0, progress=abort).verdict is Verdict.PASS
    assert seen[0].startswith("waiting")


def test_service_that_is_not_finished_is_unknown(ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.history()
    never = ledger.audit()
    assert never.verdict is Verdict.UNKNOWN
    assert "has a worker run?" in never.reasons[0]
    ledger.consumed(less=2)
    begun = ledger.audit()
    assert begun.verdict is Verdict.UNKNOWN
    assert "not finished" in begun.reasons[0] and "has a worker run?" not in begun.reasons[0]


def test_empty_topics_are_unknown(ledger: Ledger) -> None:
    report = ledger.command()
    assert report.returncode == 2
    assert "nothing was examined" in report.stdout


def test_missing_topics_are_named(kafka: Any, topic_prefix: str) -> None:
    report = audit({"bootstrap.servers": kafka.bootstrap}, topics=Topics.prefixed(topic_prefix))
    assert report.verdict is Verdict.UNKNOWN
    assert f"{topic_prefix}transfer-rejected" in report.reasons[0]


def test_topic_without_append_time_is_unknown(ledger: Ledger) -> None:
    admin = ledger.admin
    admin.delete_topics([ledger.topics.transfer])[ledger.topics.transfer].result(60)
    deadline = time.monotonic() + 60
    while ledger.topics.transfer in admin.list_topics(timeout=60).topics and time.monotonic() < deadline:
        time.sleep(0.05)
    admin.create_topics([NewTopic(ledger.topics.transfer, PARTITIONS, 1)])[ledger.topics.transfer].result(60)
    with ledger.transaction():
        ledger.history()
    ledger.consumed()
    report = ledger.audit()
    assert report.verdict is Verdict.UNKNOWN
    assert "append times" in report.reasons[0]


def test_deleted_beginning_is_unknown(ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.history()
    ledger.consumed()
    admin = ledger.admin
    for answer in admin.delete_records([TopicPartition(ledger.topics.balances, 0, 1)]).values():
        answer.result(60)
    report = ledger.audit()
    assert report.verdict is Verdict.UNKNOWN
    assert "begins at 1" in report.reasons[0]


def test_no_broker_is_unknown_within_the_bound() -> None:
    begun = time.monotonic()
    report = audit({"bootstrap.servers": "127.0.0.1:1"}, timeout_s=1.0)
    assert report.verdict is Verdict.UNKNOWN
    assert "no Kafka broker answered at 127.0.0.1:1" in report.reasons[0]
    assert time.monotonic() - begun < 5


def test_connection_settings_that_librdkafka_refuses_are_told() -> None:
    report = audit({"bootstrap.servers": "127.0.0.1:1", "security.protocol": "nonsense"})
    assert report.verdict is Verdict.UNKNOWN
    assert "not configured right" in report.reasons[0]
