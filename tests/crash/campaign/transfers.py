"""Seeded input of one shot: good transfers, refused ones of every reason, and records that are bad."""

from __future__ import annotations

import json
import random
from typing import NamedTuple

_CURRENCIES = ("EUR", "USD")


class Input(NamedTuple):
    """A record for topic `transfer`; `bad` ones belong in the dead-letter topic. `partition` None: Kafka's default."""

    key: bytes
    value: bytes
    event_id: str
    bad: bool = False
    partition: int | None = None


def transfers(seed: random.Random, count: int, account_count: int = 24) -> list[Input]:
    """The records, in the order they are to be sent."""
    accounts = [f"account-{number:02}" for number in range(account_count)]
    inputs = [_transfer(f"fund-{a}-{c}", "@bank", a, seed.randint(500, 2000), c) for a in accounts for c in _CURRENCIES]
    for number in range(count - len(inputs)):
        chance = seed.random()
        source, target = seed.sample(accounts, 2)
        event_id = f"t-{number:06}"
        currency = seed.choice(_CURRENCIES)
        if chance < 0.03:
            inputs.append(_bad(seed, event_id, source))
        elif chance < 0.06:
            inputs.append(_transfer(event_id, source, source, seed.randint(1, 50), currency))
        elif chance < 0.09:
            inputs.append(_transfer(event_id, source, target, seed.randint(-5, 0), currency))
        else:
            # Large ones among small ones: whether an account can pay depends on everything before.
            amount = seed.randint(1, 60) if chance < 0.8 else seed.randint(500, 3000)
            inputs.append(_transfer(event_id, source, target, amount, currency))
    return inputs


def _transfer(event_id: str, source: str, target: str, amount: int, currency: str) -> Input:
    fields = {
        "event_id": event_id,
        "from_account": source,
        "to_account": target,
        "amount": amount,
        "currency": currency,
        "occurred_at": "2024-05-01T12:00:00Z",
    }
    return Input(source.encode(), json.dumps(fields).encode(), event_id)


def _bad(seed: random.Random, event_id: str, source: str) -> Input:
    good = _transfer(event_id, source, "somebody", 5, "EUR")
    return seed.choice(
        (
            good._replace(value=b"not json " + event_id.encode(), bad=True),
            good._replace(value=good.value.replace(b'"amount": 5', b'"amount": "5"'), bad=True),
            good._replace(value=json.dumps({"event_id": event_id}).encode(), bad=True),
            good._replace(key=b"somebody-else", bad=True),
        )
    )
