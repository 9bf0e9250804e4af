"""Good values: of the topics of `fuzzed_app`, and of the service's own."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from fuzzing.records import PROCESSED, Make, rfc3339

_NAMES = [*(f"c{number}" for number in range(12)), "ä-ö-ü", "emoji \U0001f600", 'quote"\\', "", "x" * 300]
_PLAIN = _NAMES[:12]
_RAISED = ["no such city: \ud83d", "x" * 3000, "\x00", 7]

Made = tuple[str, dict[str, Any], str | None]


def _order(random: Random, event_id: str, now_ms: int) -> Made:
    customer = random.choice(_NAMES)
    return customer, {"order_id": event_id, "customer": customer, "cents": random.randint(-5, 5000)}, PROCESSED


def _raising_order(random: Random, event_id: str, now_ms: int) -> Made:
    """The agent raises for some of these."""
    key, value, expected = _order(random, event_id, now_ms)
    return key, value, None if value["cents"] % 11 in (3, 4) else expected


def _note(random: Random, event_id: str, now_ms: int) -> Made:
    return random.choice(_PLAIN), {"id": event_id, "text": random.choice(_NAMES)}, PROCESSED


def _raising_note(random: Random, event_id: str, now_ms: int) -> Made:
    key, value, expected = _note(random, event_id, now_ms)
    if random.random() < 0.9:
        return key, value, expected
    return key, {**value, "raise": random.choice(_RAISED)}, None


def _both(random: Random, event_id: str, now_ms: int) -> Made:
    """One of its agents raises for every record with an id."""
    key, value, _ = _note(random, event_id, now_ms)
    if random.random() < 0.7:
        return key, {**value, "id": ""}, PROCESSED
    return key, value, None


def _legacy(random: Random, event_id: str, now_ms: int) -> Made:
    account = random.choice(_PLAIN)
    return account, {"account": account, "points": random.randint(-9, 9)}, PROCESSED


def _visit(random: Random, event_id: str, now_ms: int) -> Made:
    page = random.choice(_NAMES)
    happened = rfc3339(now_ms / 1000 - random.randint(0, 600))
    return (
        page,
        {"visit_id": event_id, "page": page, "weight": random.randint(0, 9), "occurred_at": happened},
        PROCESSED,
    )


FUZZED: Mapping[str, Make] = {
    "typed-inbox": _order,
    "typed": _raising_order,
    "untyped-inbox": _note,
    "untyped": _raising_note,
    "legacy": _legacy,
    "windowed": _visit,
    "batched": _raising_order,
    "raw": _note,
    "both": _both,
}


def _transfer(random: Random, event_id: str, now_ms: int) -> Made:
    source = random.choice(["@bank", "@cash", *_PLAIN])
    value = {
        "event_id": event_id,
        "from_account": source,
        "to_account": random.choice(_NAMES),
        "amount": random.randint(-1, 500),
        "currency": random.choice(["EUR", "USD", "JPY"]),
        "occurred_at": rfc3339(now_ms / 1000 - random.randint(0, 600)),
    }
    return source, value, None


def _payment(random: Random, event_id: str, now_ms: int) -> Made:
    merchant = random.choice(_PLAIN)
    value = {
        "event_id": event_id,
        "event_type": "PAYMENT_REQUESTED",
        "order_id": f"order-{event_id}",
        "customer_id": random.choice(_NAMES),
        "merchant_id": merchant,
        "amount": random.randint(-1, 500),
        "currency": random.choice(["EUR", "USD"]),
        "occurred_at": rfc3339(now_ms / 1000 - random.randint(0, 600)),
    }
    return merchant, value, None


def _click(random: Random, event_id: str, now_ms: int) -> Made:
    advertiser = random.choice(_PLAIN)
    value = {
        "event_id": event_id,
        "ad_id": random.choice(_PLAIN),
        "advertiser_id": advertiser,
        "publisher_id": random.choice(_NAMES),
        "cpc": random.randint(0, 90),
        "occurred_at": rfc3339(now_ms / 1000 - random.randint(0, 600)),
    }
    return advertiser, value, None


CONTRACT: Mapping[str, Make] = {"transfer": _transfer, "payment": _payment, "ad-click": _click}
