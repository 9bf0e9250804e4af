"""A small storm of clicks; `make clicks` is the one of a million."""

from __future__ import annotations

import os
from typing import Any

import pytest

from clicks.storm import Storm

pytestmark = [pytest.mark.kafka, pytest.mark.crash, pytest.mark.timeout(600)]

SEED = int(os.environ.get("SEED") or 20_261_128)


def test_every_click_is_charged_and_paid_once_while_workers_are_killed(place: Any) -> None:
    directory = place.directory / "clicks"
    storm = Storm(place.cluster, directory, SEED, records=20_000, kill_every_s=3.0, bound_s=300.0, span_s=1800.0).run()
    assert not storm.problems, "\n".join([*storm.problems, f"make clicks CLICKS=20000 SEED={SEED}", str(directory)])
    assert storm.kills > 0
    assert storm.oracle.late > 0
