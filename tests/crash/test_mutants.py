"""The campaign has teeth: a worker with one deliberate mistake fails it, for the reason that mistake gives.

Without a mistake the same shots pass, which is `test_crash_points.py`.
M11 (offsets read without asking for stable ones) shows only while a transaction outlives its session, which settings
refuse; the schedules in memory notice it (`tests/simulation`).
"""

from __future__ import annotations

import re
import sys
from typing import Any, NamedTuple

import pytest

from campaign.catalogue import Point, Way
from campaign.shot import Shot
from campaign.worker import REPOSITORY

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(240)]

#: Every send waits a moment, so that events are in the middle whenever a commit falls due.
_SLOW = ({"point": "send", "action": "sleep", "times": 0, "seconds": 0.002},)
_K3 = Point("K3", "outputs in batches, nothing sent", nth=(3, 3))
_K9 = Point("K9", "offsets bound, before EndTxn", nth=(3, 3))
_K11 = Point("K11", "committed, disk not written yet", nth=(4, 4))


class Trial(NamedTuple):
    """The shot in which a mutant's mistake shows, and the words that say so."""

    point: Point
    way: Way
    shows: str


TRIALS: dict[str, Trial] = {
    "M1": Trial(Point("M1", "outputs committed, offsets not", nth=(4, 4)), Way.RESTART, "audit FAIL"),
    "M2": Trial(Point("M2", "offsets committed, outputs not", nth=(4, 4)), Way.RESTART, "audit FAIL"),
    "M3": Trial(_K9, Way.RESTART, "audit FAIL"),
    "M4": Trial(_K9, Way.RESTART, "audit FAIL"),
    "M7": Trial(Point("K12", "any", nth=(5, 5), helpers=_SLOW), Way.EMPTY, "began before a commit"),
    "M8": Trial(Point("K12", "any", nth=(14, 14), narrows="transfer-rejected"), Way.RESTART, "audit FAIL"),
    "M13": Trial(_K9, Way.EMPTY, "audit FAIL"),
    "M14": Trial(_K9, Way.RESTART, "audit FAIL"),
    "M15": Trial(_K11, Way.RESTART, "audit FAIL|changelog"),
    "M16": Trial(_K9, Way.RESTART, "0 dead letters"),
    "M17": Trial(
        Point("K9", "the first commit, of everything that lay there", nth=(1, 1)), Way.RESTART, "2 dead letters"
    ),
    "M26": Trial(_K3, Way.ZOMBIE, "audit FAIL|the zombie committed"),
    # Whether the audit sees it depends on whether a row that was left out is used again; the disk lacks it anyhow.
    "M27": Trial(_K9, Way.EMPTY, "audit FAIL|disk .* changelog"),
}


@pytest.mark.parametrize("name", TRIALS)
def test_a_mistake_is_noticed(place: Any, name: str) -> None:
    trial = TRIALS[name]
    command = (sys.executable, str(REPOSITORY / "tests/crash/mutant_worker.py"), name)
    result = Shot(*place, trial.point, trial.way, 5, command=command).run()
    text = "\n".join(result.problems)
    assert re.search(trial.shows, text), f"{name} was not noticed, or by something else: {text or 'it passed'}"
