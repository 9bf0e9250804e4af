"""Every row of docs/bad-input.md: what comes is sent to a worker on Kafka, and it must go where the table says."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from service import BOUND_S, PARTITIONS, ROOT, Service

pytestmark = pytest.mark.kafka

LARGEST, LIMIT = 2**63 - 1, 10_000_000
LONG = "x" * (16 << 10)


def now(ahead: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) + ahead).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Case:
    """A record to send; its event id begins the ids of what it leads to."""

    topic: str
    key: bytes | None
    value: bytes | None
    event_id: str
    partition: int = -1


def payment(event_id: str, **other: Any) -> Case:
    """A good payment but for `other`; a field that is `...` is left out."""
    fields = {
        "event_id": event_id, "event_type": "PAYMENT_REQUESTED", "order_id": f"o-{event_id}", "customer_id": "ann",
        "merchant_id": "shop", "amount": 500, "currency": "EUR", "occurred_at": now(), **other,
    }  # fmt: skip
    value = json.dumps({name: field for name, field in fields.items() if field is not ...})
    return Case("payment", str(fields["merchant_id"]).encode(), value.encode(), str(fields["event_id"]))


def transfer(event_id: str, **other: Any) -> Case:
    fields = {
        "event_id": event_id, "from_account": "@bank", "to_account": "ann", "amount": 5, "currency": "EUR",
        "occurred_at": now(), **other,
    }  # fmt: skip
    return Case("transfer", str(fields["from_account"]).encode(), json.dumps(fields).encode(), event_id)


def click(event_id: str, **other: Any) -> Case:
    fields = {
        "event_id": event_id, "ad_id": "ad", "advertiser_id": f"adv-{event_id}", "publisher_id": "pub", "cpc": 3,
        "occurred_at": now(), **other,
    }  # fmt: skip
    value = json.dumps(fields).encode()
    return Case("ad-click", str(fields["advertiser_id"]).encode(), value, str(fields["event_id"]))


def raw(value: bytes | None, key: bytes | None = b"shop") -> Case:
    return Case("payment", key, value, "")


def elsewhere(case: Case) -> Case:
    """The same record in a partition its key does not belong to: two merchants' home is not one of these."""
    case.partition = -2
    return case


def replaced(event_id: str, text: bytes) -> bytes:
    """A good payment with this text in a field nobody declared."""
    return payment(event_id, more=[]).value.replace(b"[]", text)  # type: ignore[union-attr]


def deep() -> bytes:
    return replaced("deep", b"[" * 33 + b"]" * 33)


def doubled() -> bytes:
    return payment("doubled").value.replace(b'"amount": 500', b'"amount": 501, "amount": 500')  # type: ignore[union-attr]


#: By row of the table, (what comes, in): the records, all of which are sent in order.
CASES: dict[tuple[str, str], Callable[[], list[Case]]] = {
    ("no JSON", "payment"): lambda: [raw(b"{pay me")],
    ("no object", "payment"): lambda: [raw(b"[1]")],
    ("no value", "payment"): lambda: [raw(None)],
    ("a number that is no number (NaN)", "payment"): lambda: [payment("nan", amount=float("nan"))],
    ("nested 33 levels deep", "payment"): lambda: [raw(deep())],
    ("a name twice", "payment"): lambda: [raw(doubled())],
    ("a name twice, deep in a field that nobody declared", "payment"): lambda: [
        raw(replaced("deep-name", b'[{"a":1,"a":1}]'))
    ],
    ("an integer beyond 64 bits in a field that nobody declared", "payment"): lambda: [
        raw(replaced("long", b"9223372036854775808"))
    ],
    ("half a surrogate pair in a field that nobody declared", "payment"): lambda: [raw(replaced("half", b'"\\ud83d"'))],
    ("bytes that are not UTF-8 in a field that nobody declared", "payment"): lambda: [
        raw(replaced("bytes", b'"\xff"'))
    ],
    ("a value over 1 MiB", "payment"): lambda: [payment("huge", note="x" * (1 << 20))],
    ("an amount that is text", "payment"): lambda: [payment("text", amount="500")],
    ("an amount with a fraction", "payment"): lambda: [payment("half", amount=0.5)],
    ("a missing field", "payment"): lambda: [payment("missing", currency=...)],
    ("an unknown event type", "payment"): lambda: [payment("type", event_type="PAYMENT_WISHED")],
    ("a field that nobody declared", "payment"): lambda: [payment("more", note="thanks")],
    ("an amount beyond 64 bits", "payment"): lambda: [payment("beyond", amount=2**63)],
    ("an amount of 2^63-1, the largest", "payment"): lambda: [payment("largest", amount=LARGEST)],
    ("an amount of one over `PAYMENT_LIMIT`", "payment"): lambda: [payment("over", amount=LIMIT + 1)],
    ("an amount of 0", "payment"): lambda: [payment("nothing", amount=0)],
    ("an amount of 0", "transfer"): lambda: [transfer("nothing", amount=0)],
    ("an amount of 2^63-1 that is not there", "transfer"): lambda: [
        transfer("largest", from_account="bob", amount=LARGEST)
    ],
    ("two amounts whose sum leaves 64 bits", "transfer"): lambda: [
        transfer("vault", from_account="@vault", to_account="hoard", amount=LARGEST),
        transfer("vault-2", from_account="@vault", to_account="hoard", amount=LARGEST),
    ],
    ("to itself, with a balance beyond 64 bits", "transfer"): lambda: [
        transfer("vault-3", from_account="@vault", to_account="@vault")
    ],
    ("a price of 0", "ad-click"): lambda: [click("free", cpc=0)],
    ("two prices whose sum leaves 64 bits", "ad-click"): lambda: [
        click("first", cpc=LARGEST, advertiser_id="rich"), click("second", cpc=1, advertiser_id="rich"),
    ],
    ("a currency that is not three letters A-Z", "payment"): lambda: [payment("shells", currency="SHELLS")],
    ("a currency that is not three letters A-Z", "transfer"): lambda: [transfer("shells", currency="eur")],
    ("three letters that are no currency", "payment"): lambda: [payment("unknown", currency="QQQ")],
    ("three letters that are no currency", "transfer"): lambda: [transfer("unknown", currency="QQQ")],
    ("an empty order and customer", "payment"): lambda: [payment("empty", order_id="", customer_id="")],
    ("an empty event id", "payment"): lambda: [payment("", order_id="o-1", merchant_id="stall")],
    ("a second empty event id, with other content", "payment"): lambda: [
        payment("", order_id="o-2", merchant_id="stall")
    ],
    ("ids and names of 16 KiB", "payment"): lambda: [
        payment(LONG, order_id=LONG, customer_id=LONG, merchant_id=LONG)
    ],
    ("ids and names of 16 KiB", "transfer"): lambda: [transfer(LONG, from_account=f"@{LONG[1:]}", to_account=LONG)],
    ("ids and names of 16 KiB", "ad-click"): lambda: [
        click(LONG, ad_id=LONG, advertiser_id=LONG, publisher_id=LONG)
    ],
    ("a name of one byte more, in two-byte letters", "payment"): lambda: [
        payment("wide", merchant_id="é" * (len(LONG) // 2) + "x")
    ],
    ("a name of one byte more", "transfer"): lambda: [transfer("long", to_account=f"{LONG}x")],
    ("an id of one byte more", "ad-click"): lambda: [click(f"{LONG}x")],
    ("an event of an hour and a minute ahead", "payment"): lambda: [
        payment("ahead", occurred_at=now(timedelta(minutes=61)))
    ],
    ("an event of the year 9999", "ad-click"): lambda: [click("9999", occurred_at="9999-12-31T23:59:59Z")],
    ("an event of 1969", "payment"): lambda: [payment("1969", occurred_at="1969-07-20T20:17:40Z")],
    ("an event of 1969", "transfer"): lambda: [transfer("1969", occurred_at="1969-07-20T20:17:40Z")],
    ("a time without a time zone", "payment"): lambda: [payment("zone", occurred_at="2026-01-01T00:00:00")],
    ("a key that is not the merchant", "payment"): lambda: [
        raw(payment("key").value, b"stall")
    ],
    ("no key", "payment"): lambda: [raw(payment("keyless").value, None)],
    ("the wrong partition", "payment"): lambda: [elsewhere(payment("partition"))],
    ("the same event id with other content", "payment"): lambda: [
        payment("twin", amount=1), payment("twin", amount=2),
    ],
    ("the same event id with the same content", "payment"): lambda: [payment("again")] * 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def service(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One worker has taken every case, and the auditor agrees with what it did."""
    prefix = f"bad-input-{time.time_ns():x}"
    with Service(kafka.bootstrap, prefix, tmp_path_factory.mktemp("bad")) as made:
        made.create_topics()
        SENT.update({row: cases() for row, cases in CASES.items()})
        send(made, [case for cases in SENT.values() for case in cases])
        made.worker(PAYMENT_LIMIT=LIMIT)
        report = made.assert_pass()
        assert report.payments.dead_letters > 15
        assert report.payments.declined == {"over_limit": 2, "amount_not_positive": 1}
        yield made


#: Made once, so that what is found can be compared with what was sent; and late, because some are an hour ahead of it.
SENT: dict[tuple[str, str], list[Case]] = {}


def send(service: Service, cases: list[Case]) -> None:
    """In this order, and each behind the last one of its partition."""
    options = {"bootstrap.servers": service.bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True}
    producer = Producer({**options, "message.max.bytes": 2_000_000})
    homes: dict[bytes | None, int] = {}
    for case in cases:
        partition = case.partition
        if partition == -2:
            partition = (homes[case.key] + 1) % PARTITIONS

        def note(_: Any, message: Any) -> None:
            homes.setdefault(message.key(), message.partition())

        producer.produce(f"{service.id}-{case.topic}", case.value, case.key, partition, on_delivery=note)
        assert producer.flush(BOUND_S) == 0


def rows() -> dict[tuple[str, str], str]:
    """The table: where what comes goes."""
    text = (ROOT / "docs" / "bad-input.md").read_text()
    cells = [re.fullmatch(r"\| (.+) \| `(.+)` \| (.+) \|", line) for line in text.splitlines()]
    return {(found[1], found[2]): found[3] for found in cells if found}


def test_every_row_of_the_table_is_a_case() -> None:
    assert list(rows()) == list(CASES)


@pytest.mark.parametrize("row", CASES, ids=lambda row: f"{row[1]}: {row[0]}")
def test_it_goes_where_the_table_says(service: Service, row: tuple[str, str]) -> None:
    told, cases = rows()[row], SENT[row]
    if found := re.search(r"`(\S+-dlt)`(?: as `(\w+)`)?", told):
        letters = dead(service, cases[-1])
        assert len(letters) == 1, told
        assert found[1] == f"{row[1]}-dlt"
        if found[2]:
            assert letters[0]["dlt-exception-fqcn"] == found[2], letters[0]
        *before, last = cases
        stands = [effect for first in before for effect in effects(service, first)]
        assert bool(stands) is bool(before), told
        assert effects(service, last) == (stands if before and before[0].event_id == last.event_id else []), told
        return
    for case in cases:
        assert dead(service, case) == [], told
    assert effects(service, cases[-1]) == expected(row, told), told


def expected(row: tuple[str, str], told: str) -> list[tuple[str, str | None]]:
    """What the table's third column promises, as topics with reasons."""
    completed = [("delivery", None), ("delivery-status", None), ("payment-result", None)]
    if reason := re.search(r"`(?:payment-result|transfer-rejected)`.*: `(\w+)`", told):
        return [("payment-result" if row[1] == "payment" else "transfer-rejected", reason[1])]
    if row[1] == "transfer":
        return [("balances", None)] * 2
    return completed if row[1] == "payment" else [("advertiser-charge", None), ("publisher-revenue", None)]


def dead(service: Service, case: Case) -> list[dict[str, str]]:
    """The headers of its dead letters: those with its very bytes."""
    return [headers for value, headers in read(service, f"{case.topic}-dlt") if value == case.value]


def effects(service: Service, case: Case) -> list[tuple[str, str | None]]:
    """What it led to, topic and reason, in the order of the topics' names."""
    topics = {
        "payment": ("delivery", "delivery-status", "payment-result"),
        "transfer": ("balances", "transfer-rejected"),
        "ad-click": ("advertiser-charge", "publisher-revenue"),
    }[case.topic]
    found = []
    for topic in topics:
        for raw, _ in read(service, topic):
            value = json.loads(raw or b"{}")
            if value["event_id"].split(":")[0] == case.event_id and belongs(value, case):
                found.append((topic, value.get("reason")))
    return found


def belongs(value: dict[str, Any], case: Case) -> bool:
    """Whether an effect is of the order that was sent: an event id alone does not tell, bad records have them, too."""
    try:
        sent = json.loads(case.value or b"")
    except ValueError:
        return False
    return isinstance(sent, dict) and value.get("order_id") == (sent.get("order_id") if "order_id" in value else None)


_READ: dict[str, list[tuple[bytes | None, dict[str, str]]]] = {}


def read(service: Service, topic: str) -> list[tuple[bytes | None, dict[str, str]]]:
    """A topic as it is now, read once."""
    if topic not in _READ:
        _READ[topic] = service.read(f"{service.id}-{topic}")
    return _READ[topic]


def test_no_record_of_the_future_has_closed_a_window(service: Service) -> None:
    finals = [value for value, _ in read(service, "payment-totals") if json.loads(value or b"")["final"]]
    assert finals == []
