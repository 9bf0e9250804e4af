"""Seeded input of one shot: good transfers, refused ones of every reason, and records that are bad."""

from __future__ import annotations

import json
import random
from typing import NamedTuple

_CURRENCIES = ("EUR", "USD")


class Input(NamedTuple):
    """A record for topic `transfer`."""

    key: bytes
    value: bytes
    event_id: str
    #: It belongs in the dead-letter topic: unreadable, or another transfer's id with other content.
    bad: bool = False
    #: It was sent before, and has no effect.
    repeat: bool = False


def transfers(seed: random.Random, count: int, account_count: int = 24, *, repeats: bool = True) -> list[Input]:
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
        elif repeats and chance < 0.07:
            inputs.append(_again(seed, inputs, number))
        elif chance < 0.10:
            inputs.append(_transfer(event_id, source, source, seed.randint(1, 50), currency))
        elif chance < 0.13:
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


def _again(seed: random.Random, inputs: list[Input], number: int) -> Input:
    """An earlier transfer again, soon after it or much later; now and then with another amount."""
    good = [item for item in inputs[-40:] if not item.bad and not item.repeat] or [inputs[0]]
    first = seed.choice(good)
    if seed.random() < 0.7:
        return first._replace(repeat=True)
    fields = json.loads(first.value) | {"amount": 100_000 + number}
    return first._replace(value=json.dumps(fields).encode(), bad=True)


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
