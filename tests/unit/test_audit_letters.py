"""Every dead letter and late record that the service may write is judged, cut ones and those for size among them."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamapp.audit.dead_letters import DeadLetters
from streamapp.audit.judge import Judge
from streamapp.audit.late import LateRecords
from streamapp.audit.record import Record
from streamapp.audit.report import Findings, Report, Verdict
from streamapp.audit.terms import Terms
from streamapp.delivery.dead_letter import dead_letter
from streamapp.delivery.late import late_record
from streamapp.delivery.side_output import SideOutput, Source
from streamapp.engine.failure import ASIDE_BYTES_MAX
from streamapp.errors import RecordError

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from histories import NOON_MS, PARTITIONS, TOPICS, Log

TIME = "2026-01-01T11:00:00Z"
ERROR = RecordError("the value is too odd", kind="MalformedRecord")


def terms(**room: int) -> Terms:
    return Terms(dict.fromkeys(TOPICS.all, PARTITIONS), room=room)


def judged(log: Log, **room: int) -> Report:
    made = Judge(terms(**room))
    made.read(log.records())
    return made.judgement()


def source_of(record: Record) -> Source:
    headers: Any = record.headers
    return Source(record.topic, record.partition, record.offset, record.timestamp_ms, record.key, record.value, headers)


def letter_of(record: Record, size_max: int = ASIDE_BYTES_MAX, error: RecordError = ERROR) -> SideOutput:
    return dead_letter(source_of(record), error, group="streamapp", attempts=1, size_max=size_max)


def written(log: Log, letter: SideOutput) -> Record:
    return log.append(letter.topic, letter.key, letter.value, letter.partition, tuple(letter.headers))


#: Sizes of keys, values and headers; None: there is none.
SIZES = st.none() | st.integers(0, 200) | st.integers(500_000, 1 << 20)
NOISE = random.Random(1).randbytes(1 << 20)


def some(size: int | None) -> bytes | None:
    return None if size is None else NOISE[:size]


@settings(max_examples=80, deadline=None)
@given(SIZES, SIZES, st.lists(SIZES, max_size=2))
@example(None, None, [500_000, 613_594])
def test_every_letter_of_a_bad_record_is_true(key: int | None, value: int | None, headers: list[int | None]) -> None:
    topic, findings = TOPICS.transfer, Findings()
    named = tuple((f"é{number}", some(size)) for number, size in enumerate(headers))
    source = Record(topic, 1, 7, NOON_MS, some(key), some(value), named)
    letters = DeadLetters(topic, terms(), findings)
    made = letter_of(source)
    letters.add(Record(made.topic, made.partition, 0, NOON_MS, made.key, made.value, tuple(made.headers)))
    [letter] = letters.take(1 << 48 | 7)
    assert letters.differences(letter, source._replace(headers=()), frozenset()) == []  # no reader asks for those


def cut(log: Log) -> Record:
    """A bad transfer whose headers are so large that its letter is cut, and the letter."""
    headers = (("trace", b"x" * (500 << 10)),)
    source = log.append(TOPICS.transfer, "ann", b"y" * (600 << 10), headers=headers)
    return written(log, letter_of(source))


@pytest.mark.parametrize(
    ("changed", "because"),
    [
        ({}, None),
        ({"dlt-value-bytes": b"1"}, "dlt-value-bytes"),
        ({"dlt-value-sha256": b"00"}, "not that of the value"),
        ({"trace": b""}, "fit the topic"),
    ],
)
def test_a_cut_letter_says_the_size_and_hash_of_what_was_too_large(
    changed: dict[str, bytes], because: str | None
) -> None:
    log = Log()
    letter = cut(log)
    assert letter.value is None
    log.replace(letter, headers=tuple({**dict(letter.headers), **changed}.items()))
    report = judged(log)
    stories = "".join(str(report.as_json()))
    assert (report.reasons == ["dlq-altered: 1"] and because in stories) if because else report.reasons == []


def test_a_letter_is_cut_for_a_topic_that_takes_less() -> None:
    log = Log()
    written(log, letter_of(log.append(TOPICS.transfer, "ann", b"y" * 100_000), size_max=90_000))
    assert judged(log).reasons == ["dlq-altered: 1"]
    assert judged(log, **{TOPICS.transfer_dlt: 90_000}).reasons == []


def transfer(log: Log) -> Record:
    value = {
        "event_id": "t", "from_account": "@bank", "to_account": "ann", "amount": 5, "currency": "EUR",
        "occurred_at": TIME,
    }  # fmt: skip
    return log.append(TOPICS.transfer, "@bank", value)


def payment(log: Log) -> Record:
    value = {
        "event_id": "p", "event_type": "PAYMENT_REQUESTED", "order_id": "o", "customer_id": "ann",
        "merchant_id": "shop", "amount": 5, "currency": "EUR", "occurred_at": TIME,
    }  # fmt: skip
    return log.append(TOPICS.payment, "shop", value)


def click(log: Log) -> Record:
    value = {
        "event_id": "c", "ad_id": "ad", "advertiser_id": "adv", "publisher_id": "pub", "cpc": 5, "occurred_at": TIME,
    }  # fmt: skip
    return log.append(TOPICS.click, "adv", value)


@pytest.mark.parametrize(
    ("send", "topic"),
    [
        (transfer, TOPICS.balances),
        (transfer, TOPICS.rejected),
        (transfer, "streamapp-balances-changelog"),
        (payment, TOPICS.delivery),
        (payment, "streamapp-inbox-changelog"),
        (click, TOPICS.revenue),
    ],
)
@pytest.mark.parametrize("kind", ["RecordTooLarge", "OutputRefused"])
def test_a_good_record_whose_effects_fit_no_topic_is_a_dead_letter(send: Any, topic: str, kind: str) -> None:
    log = Log()
    written(log, letter_of(send(log), error=RecordError("too large", kind=kind)))
    assert judged(log).reasons == ["dlq-unjustified: 1"]  # every topic takes as much as the contract says
    report = judged(log, **{topic: 1000})
    assert "dlq-unjustified: 1" not in report.reasons
    assert report.verdict is Verdict.PASS
    assert any("too large for a topic: 1" in note for note in report.notes)


def test_a_small_topic_excuses_no_other_letter() -> None:
    log = Log()
    written(log, letter_of(transfer(log), error=RecordError("no", kind="EventIdConflict")))
    assert judged(log, **{TOPICS.balances: 1000}).reasons == ["dlq-unjustified: 1"]


@pytest.mark.parametrize("header_bytes", [100, 500 << 10, 1200 << 10])
def test_a_late_record_that_was_cut_is_known_by_its_hash(header_bytes: int) -> None:
    findings = Findings()
    source = Record(TOPICS.payment, 0, 3, NOON_MS, b"21", b"y" * (600 << 10), (("trace", b"x" * header_bytes),))
    source = source._replace(partition=(-973932308 & 0x7FFFFFFF) % PARTITIONS)  # murmur2 of the key
    made = late_record(source_of(source), "t", [(0, 1)], 2, size_max=ASIDE_BYTES_MAX)
    assert (made.value is None, made.key is None) == (header_bytes > 100, header_bytes > 1 << 20)
    late = LateRecords("totals", PARTITIONS, findings)
    late.add(Record(made.topic, made.partition, 0, NOON_MS, made.key, made.value, tuple(made.headers)))
    late.claim(source._replace(headers=()), 17)
    assert list(late.without({17: None}, ())) == []
    late.end()
    assert not findings.violated


def test_letters_and_late_records_are_true_where_their_topics_have_fewer_partitions() -> None:
    fewer = Terms({**dict.fromkeys(TOPICS.all, PARTITIONS), "transfer-dlt": 1})
    log, findings = Log(), Findings()
    bad = log.append("transfer", b"k", b"{", PARTITIONS - 1)
    letter = letter_of(bad)._replace(partition=0)
    made = Judge(fewer)
    written(log, letter)
    made.read(log.records())
    assert made.judgement().verdict is not Verdict.FAIL
    late = LateRecords("totals", PARTITIONS, findings, 1)
    late.add(log.append("payment-late", b"key of some partition", b"{}", 0, (("late-table", b"t"),)))
    assert not findings.violated
