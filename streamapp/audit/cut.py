"""The cut: how far each topic is read, and below what everything must have happened.

The service may be running. So the ends are taken in the order of the flow: transfers, payments and clicks first;
once the group has committed past them, all their legs and deliveries are written, and the ends of those are taken;
once the group has committed past them, all that follows is written, and the ends of the rest are taken. Last, the
inputs' ends are taken again, so that every effect that was read finds its cause. An open transaction below an end is
waited out, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from streamapp.audit.broker import Broker, CannotTell, Place, Span
from streamapp.audit.record import Topics
from streamapp.audit.terms import Cut

_POLL_S = 0.2

#: Told while waiting, with the number of records the group has not consumed.
Waiting = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Extent:
    """What is to be read, and the terms that follow from it."""

    partitions: dict[str, int]
    spans: dict[str, dict[int, tuple[int, int]]]  # by topic and partition: first offset, end
    cut: Cut

    def records(self, topic: str) -> int:
        """How many offsets a topic has to read; control records among them."""
        return sum(end - first for first, end in self.spans[topic].values())


def take(broker: Broker, topics: Topics, group: str, wait_s: float, waiting: Waiting) -> Extent:
    """The extent of an audit. Raises `CannotTell`, when the service is not done within `wait_s` for one reason."""
    partitions = broker.partitions(topics.all)
    if missing := [name for name in topics.all if name not in partitions]:
        raise CannotTell(f"there is no topic {', '.join(missing)}. `streamapp topics apply` makes what is missing.")
    _refuse_truncated(broker, partitions)
    patience = _Patience(broker, group, time.monotonic() + wait_s, waiting)
    cut: dict[str, dict[int, int]] = {}
    for stage in topics.inputs:
        for (name, number), end in patience.consumed({name: partitions[name] for name in stage}).items():
            cut.setdefault(name, {})[number] = end
    ends = patience.stable({name: count for name, count in partitions.items() if name not in cut})
    ends |= {place: span.stable for place, span in broker.spans({name: partitions[name] for name in cut}).items()}
    spans: dict[str, dict[int, tuple[int, int]]] = {name: {} for name in topics.all}
    for (name, number), end in ends.items():
        spans[name][number] = (0, end)
    return Extent(partitions, spans, Cut(cut))


def _refuse_truncated(broker: Broker, partitions: Mapping[str, int]) -> None:
    """Balances are folded from the very first record: a log that lost its beginning cannot be judged."""
    gone = [f"{name}[{number}] begins at {span.first}" for (name, number), span in broker.spans(partitions).items()
            if span.first > 0]  # fmt: skip
    if gone:
        raise CannotTell(f"old records are deleted ({', '.join(gone[:3])}): balances cannot be folded from the start.")


class _Patience:
    """Waits, all in all until one deadline."""

    def __init__(self, broker: Broker, group: str, deadline: float, waiting: Waiting) -> None:
        self._broker = broker
        self._group = group
        self._deadline = deadline
        self._waiting = waiting

    def stable(self, partitions: Mapping[str, int]) -> dict[Place, int]:
        """The ends written now, once no transaction is open below them."""
        wanted = {place: span.written for place, span in self._broker.spans(partitions).items()}
        while True:
            spans = self._broker.spans(partitions)
            hanging = {place: span for place, span in spans.items() if span.stable < wanted[place]}
            if not hanging:
                return wanted
            self._pause(_told_open(hanging), sum(wanted[at] - span.stable for at, span in hanging.items()))

    def consumed(self, partitions: Mapping[str, int]) -> dict[Place, int]:
        """The ends written now, once no transaction is open below them and the group has consumed all of it."""
        wanted = self.stable(partitions)
        while True:
            committed = self._broker.committed(self._group, partitions)
            behind = {at: end for at, end in wanted.items() if committed.get(at, 0) < end}
            lag = sum(end - committed.get(at, 0) for at, end in behind.items())
            if not behind or not self._any_record(behind, committed):
                return wanted
            self._pause(_told_lag(self._group, partitions, lag, any(committed.values())), lag)

    def _any_record(self, behind: Mapping[Place, int], committed: Mapping[Place, int]) -> bool:
        """Whether there is a record, not only the marks of transactions, between the group and the end."""
        for (name, number), end in behind.items():
            span = {number: (committed.get((name, number), 0), end)}
            if next(self._broker.read(name, span), None) is not None:
                return True
        return False

    def _pause(self, sentence: str, records: int) -> None:
        if time.monotonic() >= self._deadline:
            raise CannotTell(sentence)
        self._waiting(records)
        time.sleep(_POLL_S)


def _told_open(hanging: Mapping[Place, Span]) -> str:
    where = ", ".join(f"{name}[{number}]@{span.stable}" for (name, number), span in list(hanging.items())[:3])
    return (
        f"a transaction is open at {where}: records behind it are not committed yet. "
        "It ends with its producer, or by its time-out; try again, or wait longer with --wait."
    )


def _told_lag(group: str, partitions: Mapping[str, int], lag: int, started: bool) -> str:
    names = ", ".join(partitions)
    never = "" if started else f" The group {group} has committed nothing of it: has a worker run?"
    return f"not finished: {lag:,} records of {names} are not yet consumed by the group {group}.{never}"
