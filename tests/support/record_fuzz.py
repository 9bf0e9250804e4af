"""The service's decoders and the auditor's readers, written apart, on the same odd values: they must say the same.

python -m record_fuzz --records 1000000 --seed 7
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from odd_records import GOOD, odd_values

from streamapp import records
from streamapp.audit import events, values
from streamapp.clock import parse_rfc3339
from streamapp.codec import Codec
from streamapp.errors import RecordError


class Pair(NamedTuple):
    """Both readers of one topic."""

    codec: Codec[Any]
    audit: Callable[[bytes | None], Any]


PAIRS = {
    "transfer": Pair(Codec(records.Transfer), values.transfer),
    "balances": Pair(Codec(records.BalanceEntry), values.leg),
    "payment": Pair(Codec(records.Payment), events.payment),
    "delivery": Pair(Codec(records.Delivery), events.delivery),
    "ad-click": Pair(Codec(records.AdClick), events.click),
}


def disagreement(topic: str, value: bytes | None, tally: Counter[str] | None = None) -> str | None:
    """How the two differ about a value; None where they say the same, and read the same in it."""
    service, auditor = _by_service(topic, value), _by_auditor(topic, value)
    if tally is not None:
        tally[f"{topic} {'good' if isinstance(service, dict) else 'bad'}"] += 1
    if isinstance(service, dict) and isinstance(auditor, dict):
        return None if service == auditor else f"{topic}: read as {service} and as {auditor}: {_short(value)}"
    if isinstance(service, str) and isinstance(auditor, str):
        return None
    said = [found if isinstance(found, str) else "good" for found in (service, auditor)]
    return f"{topic}: the service says {said[0]}; the auditor says {said[1]}: {_short(value)}"


def _by_service(topic: str, value: bytes | None) -> dict[str, Any] | str:
    """The declared fields, or why there are none."""
    codec = PAIRS[topic].codec
    try:
        record = codec.decode(value)
        codec.key(record)
    except RecordError as exc:
        return str(exc)
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    moment = parse_rfc3339(fields.pop("occurred_at"))
    return fields | {"occurred_us": (moment - values._EPOCH) // values._MICROSECOND}


def _by_auditor(topic: str, value: bytes | None) -> dict[str, Any] | str:
    try:
        found = PAIRS[topic].audit(value)
    except values.Malformed as exc:
        return str(exc)
    return dict(found._asdict())


def _short(value: bytes | None) -> str:
    shown = repr(value)
    return shown if len(shown) <= 600 else f"{shown[:400]}...{shown[-150:]}"


def fuzz(count: int, seed: int, tally: Counter[str]) -> Iterator[str]:
    """Every disagreement about so many values; counts the good and the bad ones of each topic."""
    rng = random.Random(seed)
    made = {topic: odd_values(rng, good) for topic, good in GOOD.items()}
    topics = list(GOOD)
    for number in range(count):
        topic = topics[number % len(topics)]
        if found := disagreement(topic, next(made[topic]), tally):
            yield found


def main() -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(prog="record_fuzz")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    started, tally, found = time.monotonic(), Counter[str](), 0
    for text in fuzz(given.records, seed, tally):
        found += 1
        if found <= 20:
            print(text)
    print(
        f"{given.records:,} records of seed {seed} in {time.monotonic() - started:.0f} s; {dict(sorted(tally.items()))}"
    )
    print(f"they disagree about {found:,}" if found else "they agree about all of them")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
