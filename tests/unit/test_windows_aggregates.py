"""What is kept of the records of a window."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from streamapp.errors import ConfigurationError, RecordError
from streamapp.windows import Collect, Count, Last, Max, Mean, Min, Reduce, Sum
from streamapp.windows.aggregates import Aggregates

ALL = {
    "count": Count(),
    "sum": Sum("amount"),
    "min": Min("amount"),
    "max": Max("amount"),
    "mean": Mean("amount"),
    "last": Last("amount"),
    "collect": Collect("amount"),
    "longest": Reduce(lambda state, it: max(state, len(str(it["amount"]))), 0),
}


def test_every_aggregate_is_what_python_makes_of_the_whole_list() -> None:
    for seed in range(500):
        random_ = random.Random(seed)
        amounts = [random_.randint(-1000, 1000) for _ in range(random_.randint(1, 30))]
        times = [random_.randint(0, 20) for _ in amounts]
        aggregates, state = Aggregates(ALL), None
        for amount, time in zip(amounts, times, strict=True):
            state = msgspec.json.decode(msgspec.json.encode(aggregates.fold(state, {"amount": amount}, time)))
        newest = max(times)
        assert aggregates.result(state) == {
            "count": len(amounts),
            "sum": sum(amounts),
            "min": min(amounts),
            "max": max(amounts),
            "mean": sum(amounts) / len(amounts),
            "last": [amount for amount, time in zip(amounts, times, strict=True) if time == newest][-1],
            "collect": amounts,
            "longest": max(len(str(amount)) for amount in amounts),
        }, seed


def test_a_merged_state_is_that_of_all_records() -> None:
    random_ = random.Random(1)
    records = [({"amount": random_.randint(-9, 9)}, time) for time in range(20)]
    named = {name: one for name, one in ALL.items() if name != "longest"}
    aggregates = Aggregates({**named, "longest": Reduce(ALL["longest"]._function, 0, merge=max)})  # type: ignore[attr-defined]
    whole = first = second = None
    for value, time in records:
        whole = aggregates.fold(whole, value, time)
    for value, time in records[:7]:
        first = aggregates.fold(first, value, time)
    for value, time in records[7:]:
        second = aggregates.fold(second, value, time)
    assert aggregates.result(aggregates.merge(first, second)) == aggregates.result(whole)


def test_a_state_is_not_changed_in_place() -> None:
    aggregates = Aggregates(ALL)
    before = aggregates.fold(None, {"amount": 1}, 0)
    kept = msgspec.json.encode(before)
    aggregates.fold(before, {"amount": 2}, 1)
    assert msgspec.json.encode(before) == kept


def test_a_field_may_be_an_attribute_or_a_function() -> None:
    record = SimpleNamespace(price=3, pieces=4)
    assert Sum("price").fold(None, record, 0) == 3
    assert Sum(lambda it: it.price * it.pieces).fold(5, record, 0) == 17


def test_an_aggregate_added_later_begins_with_the_next_record() -> None:
    old = Aggregates({"count": Count()}).fold(None, {"amount": 5}, 0)
    more = Aggregates({"count": Count(), "sum": Sum("amount"), "mean": Mean("amount"), "last": Last("amount")})
    assert more.result(old) == {"count": 1, "sum": 0, "mean": None, "last": None}
    assert more.result(more.fold(old, {"amount": 7}, 0)) == {"count": 2, "sum": 7, "mean": 7.0, "last": 7}


@pytest.mark.parametrize("value", [None, True, "5", [1], float("nan"), float("inf")])
def test_what_is_no_number_is_a_bad_record(value: Any) -> None:
    for aggregate in (Sum("amount"), Min("amount"), Max("amount"), Mean("amount")):
        with pytest.raises(RecordError, match="no number"):
            aggregate.fold(None, {"amount": value}, 0)


def test_a_missing_field_is_a_bad_record() -> None:
    with pytest.raises(RecordError, match="has no amount"):
        Sum("amount").fold(None, {}, 0)


@pytest.mark.parametrize("aggregate", [Sum("amount"), Mean("amount")])
def test_a_sum_stays_within_what_other_readers_can_hold(aggregate: Any) -> None:
    most = aggregate.fold(None, {"amount": 2**63 - 2}, 0)
    assert aggregate.fold(most, {"amount": 1}, 0)
    with pytest.raises(RecordError, match="64 bits") as raised:
        aggregate.fold(most, {"amount": 2}, 0)
    assert raised.value.kind == "SumTooLarge"
    with pytest.raises(RecordError, match="64 bits"):
        Sum("amount").fold(1e308, {"amount": 1e308}, 0)


def test_a_collection_is_bounded() -> None:
    collect = Collect("amount", most=2)
    state = collect.fold(collect.fold(None, {"amount": 1}, 0), {"amount": 2}, 0)
    with pytest.raises(RecordError, match="collected 2 values"):
        collect.fold(state, {"amount": 3}, 0)


def test_declarations_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        Aggregates({})
    with pytest.raises(ConfigurationError, match="merge="):
        Reduce(lambda state, it: it).merge(1, 2)
