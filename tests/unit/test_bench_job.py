"""The bench's input and its judge: what would let a wrong answer have a speed."""

from __future__ import annotations

from collections import Counter

import pytest

from bench import job
from bench.job import Leg, Verdict
from bench.latency import percentile


def test_the_input_is_the_same_every_time_and_repeats_one_record_in_a_hundred() -> None:
    made = list(job.transfers(1000))
    assert made == list(job.transfers(1000))
    repeated = {event_id: n for event_id, n in Counter(one.event_id for one in made).items() if n > 1}
    assert len(repeated) == 10 and set(repeated.values()) == {2}
    assert all(one.src != one.dst for one in made)
    assert {one.event_id for one in made}.isdisjoint(one.event_id for one in job.transfers(1000, first=1000))


def test_padding_makes_a_record_larger_and_changes_nothing_else() -> None:
    plain, padded = next(job.transfers(1)), next(job.transfers(1, padding=500))
    assert len(job.encode(padded)) - len(job.encode(plain)) >= 500
    assert job.legs(plain) == job.legs(padded)


DEBIT, CREDIT = job.legs(next(job.transfers(1)))
STRANGER = Leg("stranger", "a1", 5)


@pytest.mark.parametrize(
    ("seen", "verdict", "once", "at_least_once"),
    [
        (Counter({DEBIT: 1, CREDIT: 1}), Verdict(2, 0, 0, 0, 0), True, True),
        (Counter({DEBIT: 2, CREDIT: 1}), Verdict(3, 1, 0, 0, 0), False, True),
        (Counter({DEBIT: 1}), Verdict(1, 0, 1, 1, 0), False, False),
        (Counter(), Verdict(0, 0, 0, 2, 0), False, False),
        (Counter({DEBIT: 1, CREDIT: 1, STRANGER: 1}), Verdict(3, 0, 1, 0, 1), False, False),
        (Counter({DEBIT: 1, Leg(CREDIT.event_id, CREDIT.account, 7): 1}), Verdict(2, 0, 0, 1, 1), False, False),
    ],
)
def test_an_answer_is_right_only_if_each_leg_is_there_once(
    seen: Counter[Leg], verdict: Verdict, once: bool, at_least_once: bool
) -> None:
    found = job.judge({DEBIT, CREDIT}, seen)
    assert found == verdict
    assert (found.holds(exactly_once=True), found.holds(exactly_once=False)) == (once, at_least_once)


def test_percentiles_are_values_that_were_seen() -> None:
    values = list(range(1, 1001))
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [500, 990, 999, 1000]
    assert percentile([7], 0.5) == 7
