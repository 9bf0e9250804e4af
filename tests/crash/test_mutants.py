"""The campaign has teeth: a worker with one deliberate mistake fails it, for a reason that mistake gives.

Which one depends on what the broker does at that moment, so a trial names all of them. What a slow machine may show
without any mistake is none: that something is not there yet, or that the point was not reached.
Without a mistake the same shots pass, which is `test_crash_points.py`.
M11 (offsets read without asking for stable ones) shows only while a transaction outlives its session, which settings
refuse; the schedules in memory notice it (`tests/simulation`).
"""

from __future__ import annotations

import random
import re
import sys
from typing import Any, NamedTuple

import pytest

from campaign.catalogue import Point, Way
from campaign.shot import Shot
from campaign.transfers import Input
from campaign.worker import REPOSITORY

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(600)]

#: Every send waits a moment, so that events are in the middle whenever a commit falls due.
_SLOW = ({"point": "send", "action": "sleep", "times": 0, "seconds": 0.002},)
_K3 = Point("commit.before_produce", "outputs in batches, nothing sent", nth=(3, 3))
_K9 = Point("commit.before_end", "offsets bound, before EndTxn", nth=(3, 3))
_K11 = Point("commit.before_store", "committed, disk not written yet", nth=(4, 4))


#: What the judges say of an effect that came twice or from nowhere, of one that never came, of views that differ.
_JUDGED = (
    "audit FAIL",
    "[2-9] (debits|credits|refusals|dead letters)",
    "an effect without a transfer",
    r"(changelog|disk \S+) has ",
    "no owner's store has the end of the changelog",
)
#: What the engine itself says of a unit that outlives its transaction.
_OUTLIVED = "UnitEnded.*(began before|is closed)"


class Trial(NamedTuple):
    """The shot in which a mutant's mistake shows, and patterns of what may say so beside the judges."""

    point: Point
    way: Way
    guards: tuple[str, ...] = ()
    #: The first records are ones that nobody can read, so that the first commit has dead letters, whatever the seed.
    bad_first: bool = False


class BadFirst(Shot):
    """A shot whose input begins with records that nobody can read."""

    def _inputs(self, seed: random.Random) -> list[Input]:
        bad = [Input(b"account-%02d" % n, b"not json %d" % n, f"bad-{n}", bad=True) for n in range(12)]
        return bad + super()._inputs(seed)[: -len(bad)]


TRIALS: dict[str, Trial] = {
    "M1": Trial(Point("M1", "outputs committed, offsets not", nth=(4, 4)), Way.RESTART),
    "M2": Trial(Point("M2", "offsets committed, outputs not", nth=(4, 4)), Way.RESTART),
    "M3": Trial(_K9, Way.RESTART),
    "M4": Trial(_K9, Way.RESTART),
    "M7": Trial(Point("commit.after_store", "any", nth=(5, 5), helpers=_SLOW), Way.EMPTY, (_OUTLIVED,)),
    # A refused batch of a changelog has no offset, which its store notices.
    "M8": Trial(
        Point("commit.after_store", "any", nth=(14, 14), narrows="transfer-rejected"),
        Way.RESTART,
        (r"checkpoint -?\d+ is behind the stored",),
    ),
    "M13": Trial(_K9, Way.EMPTY),
    "M14": Trial(_K9, Way.RESTART),
    "M15": Trial(_K11, Way.RESTART),
    "M16": Trial(_K9, Way.RESTART, ("0 dead letters",)),
    "M17": Trial(
        Point("commit.before_end", "the first commit, of everything that lay there", nth=(1, 1)),
        Way.RESTART,
        bad_first=True,
    ),
    # Nothing is given up, and then more is assigned: the commit cycle has no such step.
    "M26": Trial(_K3, Way.ZOMBIE, ("the zombie committed", _OUTLIVED, "ASSIGNED cannot happen")),
    # Whether the audit sees it depends on whether a row that was left out is used again; the disk lacks it anyhow.
    "M27": Trial(_K9, Way.EMPTY),
}


@pytest.mark.parametrize("name", TRIALS)
def test_a_mistake_is_noticed(place: Any, name: str) -> None:
    trial = TRIALS[name]
    command = (sys.executable, str(REPOSITORY / "tests/crash/mutant_worker.py"), name)
    shot = BadFirst if trial.bad_first else Shot
    result = shot(*place, trial.point, trial.way, 5, command=command).run()
    text = "\n".join(result.problems)
    assert any(re.search(pattern, text) for pattern in (*_JUDGED, *trial.guards)), (
        f"{name} was not noticed, or by something else: {text or 'it passed'}"
    )
