"""Crash points: nothing without a plan and its permission, the note before the act, the right hit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import timeit
from pathlib import Path

import pytest

from streamapp import failpoints
from streamapp.errors import ConfigurationError
from streamapp.failpoints import FailpointPlan, Fault


def hits(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_without_a_plan_a_point_does_nothing_and_costs_next_to_nothing() -> None:
    assert not failpoints.ARMED.on
    assert not failpoints.planned("commit.before_end")
    point = failpoints.failpoint
    best = min(timeit.repeat(lambda: point("commit.before_end"), number=100_000, repeat=5)) / 100_000
    assert best < 500e-9, "an empty call, even on a busy machine"


def test_a_plan_alone_is_not_enough() -> None:
    plan = {"FAULT_PLAN": '[{"point": "commit.before_end", "action": "kill"}]', "FAULT_PLAN_HITS": "hits"}
    assert FailpointPlan.of(plan) is None
    assert FailpointPlan.of(plan | {"FAULT_PLAN_ALLOWED": "yes"}) is None
    assert FailpointPlan.of({"FAULT_PLAN_ALLOWED": "1"}) is None
    assert FailpointPlan.of(plan | {"FAULT_PLAN_ALLOWED": "1"}) is not None


@pytest.mark.parametrize(
    "text",
    ["[", '[{"point": "commit.before_end"}]', '[{"point": "commit.before_end", "action": "explode"}]', '[{"pint": 1}]'],
)
def test_a_plan_nobody_can_read_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigurationError, match="FAULT_PLAN"):
        FailpointPlan.of({"FAULT_PLAN": text, "FAULT_PLAN_ALLOWED": "1", "FAULT_PLAN_HITS": "hits"})


def test_it_acts_at_the_nth_time_and_says_so_first(tmp_path: Path) -> None:
    noted: list[int] = []
    file = tmp_path / "hits"
    plan = FailpointPlan([Fault("commit.before_end", "kill", nth=3)], file, lambda number: noted.append(number) or None)  # type: ignore[func-returns-value]
    for _ in range(2):
        plan.failpoint("commit.before_end")
        plan.failpoint("commit.before_produce")
    assert not file.exists()
    plan.failpoint("commit.before_end")
    assert noted == [signal.SIGKILL]
    assert hits(file) == [{"point": "commit.before_end", "hit": 3, "action": "kill", "process": os.getpid()}]
    plan.failpoint("commit.before_end")
    assert noted == [signal.SIGKILL], "once is once"


def test_what_is_raised_is_named_in_the_plan(tmp_path: Path) -> None:
    plan = FailpointPlan(
        [Fault("commit.before_offsets", "raise", error="streamapp.eos.cluster:NoAnswer", times=0)], tmp_path / "hits"
    )
    for _ in range(2):
        with pytest.raises(Exception, match=r"failpoint commit\.before_offsets") as raised:
            plan.failpoint("commit.before_offsets")
        assert type(raised.value).__name__ == "NoAnswer"


def test_hold_waits_for_its_file(tmp_path: Path) -> None:
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.touch()
    plan = FailpointPlan(
        [Fault("A", "hold", until=str(there)), Fault("B", "hold", until=str(missing), seconds=0.02)], tmp_path / "hits"
    )
    plan.failpoint("A")
    plan.failpoint("B")
    assert [hit["point"] for hit in hits(tmp_path / "hits")] == ["A", "B"]


def test_a_killed_process_has_left_its_note(tmp_path: Path) -> None:
    file = tmp_path / "hits"
    reach = "failpoint('commit.before_end')"
    code = f"from streamapp.failpoints import failpoint; {reach}; {reach}; print('alive')"
    environment = dict(os.environ) | {
        "FAULT_PLAN_ALLOWED": "1",
        "FAULT_PLAN": '[{"point": "commit.before_end", "action": "kill", "nth": 2}]',
        "FAULT_PLAN_HITS": str(file),
    }
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not ended.stdout
    assert [hit["hit"] for hit in hits(file)] == [2]
