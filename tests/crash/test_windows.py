"""Windows across faults: every upsert of every window is the model's, in order, and each window has one final.

A shot is as in `campaign`: real workers under load, a fault at a point, a way to go on. The model replays the input in
the order it has in its partitions, so what is late, and what each revision holds, is decided by the input alone.
"""

from __future__ import annotations

import datetime
import json
import os
import random
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import windowed_worker as work
from campaign.catalogue import Point, Way
from campaign.shot import CONSUMED_S, TRANSFERS, Shot
from campaign.transfers import Input
from campaign.worker import REPOSITORY, Worker, wait_until

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from window_model import Tap, of_tables, second

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(600)]

SEED = int(os.environ.get("SEED") or datetime.datetime.now(datetime.UTC).toordinal())
WAYS = list(Way)
#: Until the last windows are closed, once every event is.
CLOSED_S = 20.0
#: A closing takes its time, so that the partitions are given up while windows wait to be closed. The sleep blocks the
#: worker's loop: the 2,000 closings of one unit, at most, must stay well within the session time-out, or the worker is
#: thrown out of the group instead.
_SLOW_CLOSING = ({"point": "window.before_final", "action": "sleep", "times": 0, "seconds": 0.001},)

POINTS = (
    Point("commit.before_changelog", "finals staged, nothing sent"),
    Point("commit.before_offsets", "finals acknowledged, before the offsets"),
    Point("commit.before_end", "offsets bound, before EndTxn"),
    Point("end.answer_lost", "EndTxn done, its answer lost", hook="answer EndTxnRequest"),
    Point("commit.before_store", "finals committed, state on disk not deleted yet"),
    Point("commit.after_store", "commit complete, before the next transaction"),
    Point(
        "revoke.before_commit",
        "in the revoke, in the middle of closing",
        nth=(1, 1),
        needs_rebalance=True,
        helpers=_SLOW_CLOSING,
    ),
    Point(
        "revoke.after_commit",
        "in the revoke, after its commit",
        nth=(1, 1),
        needs_rebalance=True,
        helpers=_SLOW_CLOSING,
    ),
    Point("restore.half_done", "in the middle of a restore", nth=(1, 2), after_another=True, empties_first=True),
)
BEFORE_FINAL = Point("window.before_final", "final produced, state not deleted", nth=(20, 120))


class WindowShot(Shot):
    """A shot of `windowed_worker.py`."""

    reads = ("taps",)

    def _inputs(self, seed: random.Random) -> list[Input]:
        return [
            Input(key.encode(), json.dumps(value).encode(), str(number), value["amount"] == work.UNREADABLE)
            for number, (key, value) in enumerate(work.taps(seed, TRANSFERS))
        ]

    def _judge(self, owners: list[Worker], victim: Worker, inputs: Any) -> None:
        if not wait_until(lambda: self._progress() >= len(inputs), CONSUMED_S):
            self._problem(f"{self._progress()} of {len(inputs)} records consumed")
        # What an event leaves when it comes to its bound is closed between events, a tick later.
        wait_until(lambda: not self._differences(), CLOSED_S)
        for worker in owners:
            ended_alone = worker.exit_code is not None
            code = worker.stop()
            if code != 0 and not (worker is victim and ended_alone):
                self._problem(f"{worker.log.name} ended with {code}: {worker.tail(2)}")
        self.result.problems += self._differences()

    def _differences(self) -> list[str]:
        records = self._cluster.records(["taps"])
        problems = []
        for topic, size, step in (("minutes", work.TUMBLING, work.TUMBLING), ("spans", work.HOPPING, work.STEP)):
            expected, late = of_tables(taps_of(records), size, step, work.GRACE)
            found = upserts(self._cluster.records([topic]))
            problems += [
                f"{topic} {key}: {found.get(key)} instead of {expected.get(key)}"
                for key in sorted(expected.keys() | found.keys())
                if found.get(key) != expected.get(key)
            ]
            set_aside = late_of(self._cluster.records(["taps-late"]), topic)
            if set_aside != late:
                problems.append(f"{topic}: late are {set_aside}, and should be {late}")
        letters = [message.value() for message in self._cluster.records(["taps-dlt"])]
        bad = [message.value() for message in records if json.loads(message.value())["amount"] == work.UNREADABLE]
        if sorted(letters) != sorted(bad):
            problems.append(f"{len(letters)} dead letters instead of {len(bad)}")
        return problems[:12]


def taps_of(messages: Any) -> list[Tap]:
    found = []
    for it in messages:
        value = json.loads(it.value())
        amount = None if value["amount"] == work.UNREADABLE else value["amount"]
        found.append(Tap(it.partition(), it.offset(), it.key().decode(), second(value["occurred_at"]), amount))
    return found


def upserts(messages: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for message in sorted(messages, key=lambda it: (it.partition(), it.offset())):
        value = json.loads(message.value())
        found[message.key().decode()].append((value["revision"], value["count"], value["amount"], value["final"]))
    return dict(found)


def late_of(messages: Any, table: str) -> list[Any]:
    found = []
    for message in messages:
        headers = {name: value.decode() for name, value in message.headers()}
        if headers["late-table"] == table:
            found.append((message.partition(), int(headers["late-original-offset"]), headers["late-windows"]))
    return sorted(found)


def command(*mutant: str) -> tuple[str, ...]:
    return (sys.executable, str(REPOSITORY / "tests/crash/windowed_worker.py"), *mutant)


@pytest.mark.parametrize("way", WAYS)
def test_a_final_that_was_sent_is_not_sent_again(place: Any, way: Way) -> None:
    result = WindowShot(*place, BEFORE_FINAL, way, SEED, command=command()).run()
    assert result.passed, "\n".join([*result.problems, f"SEED={SEED}", result.directory])


@pytest.mark.parametrize(
    ("point", "way"),
    [pytest.param(p, WAYS[(i + SEED) % 4], id=f"{p.name}-{WAYS[(i + SEED) % 4]}") for i, p in enumerate(POINTS)],
)
def test_open_windows_close_once_and_closed_ones_stay_closed(place: Any, point: Point, way: Way) -> None:
    result = WindowShot(*place, point, way, SEED, command=command()).run()
    assert result.passed, "\n".join([*result.problems, f"SEED={SEED}", result.directory])


@pytest.mark.parametrize(
    ("mutant", "way", "shows"),
    [
        ("W1", Way.RESTART, "instead of"),
        pytest.param("W2", Way.RESTART, "instead of", marks=pytest.mark.slow),
        pytest.param("W3", Way.RESTART, "False.*instead of.*True", marks=pytest.mark.slow),
    ],
)
def test_a_mistake_is_noticed(place: Any, mutant: str, way: Way, shows: str) -> None:
    """The watermark not persisted, a window deleted before the commit, a final that does not say so."""
    point = Point("commit.before_end", "offsets bound, before EndTxn", nth=(5, 5))
    result = WindowShot(*place, point, way, 5, command=command(mutant)).run()
    text = "\n".join(result.problems)
    assert re.search(shows, text), f"{mutant} was not noticed, or by something else: {text or 'it passed'}"
