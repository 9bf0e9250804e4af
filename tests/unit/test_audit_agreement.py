"""The service's codec and the auditor's reader, written apart, must say the same of every value.

Where they do not, one of them has misread the contract: one such record of a stranger's, and no audit passes any more.
`make fuzz` tries as many as are asked for.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from odd_records import BYTES, GOOD, TEXTS, encoded
from record_fuzz import PAIRS, disagreement, fuzz


def with_text(topic: str, name: str, text: str, *, instead: bool = True) -> bytes:
    """A good record with this JSON text as the field's value, or with the field a second time."""
    members = [(field, json.dumps(value)) for field, value in GOOD[topic].items() if not (instead and field == name)]
    return encoded("{" + ",".join(f'"{field}":{raw}' for field, raw in [*members, (name, text)]) + "}")


@pytest.mark.parametrize("topic", PAIRS)
def test_every_odd_text_in_every_field(topic: str) -> None:
    cases = [with_text(topic, name, text) for name in (*GOOD[topic], "unknown") for text in TEXTS]
    cases += [with_text(topic, name, text, instead=False) for name in GOOD[topic] for text in TEXTS]
    found = [text for value in cases if (text := disagreement(topic, value))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("topic", PAIRS)
def test_odd_bytes_before_behind_and_within(topic: str) -> None:
    good = json.dumps({**GOOD[topic], "unknown": "QQ"}).encode()
    name = json.dumps({**GOOD[topic], "QQ": 1}).encode()
    cases: list[bytes | None] = [None, b"", good]
    for odd in BYTES:
        cases += [odd + good, good + odd, good.replace(b"QQ", odd), name.replace(b"QQ", odd), good.replace(b"1", odd)]
    found = [text for value in cases if (text := disagreement(topic, value))]
    assert not found, "\n".join(found)


def test_thirty_thousand_records_of_every_kind() -> None:
    tally: Counter[str] = Counter()
    found = list(fuzz(30_000, 20261201, tally))
    assert not found, "\n".join(found[:20])
    for topic in PAIRS:  # both verdicts are often given, or the fuzz would prove little
        assert min(tally[f"{topic} good"], tally[f"{topic} bad"]) > 500, tally
