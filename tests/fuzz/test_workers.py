"""Whole workers under odd input: whatever comes is processed or a dead letter, once, and the worker goes on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from fuzzing.judge import problems
from fuzzing.memory import run

SEED = int(os.environ.get("SEED") or 20_261_201)
RECORDS = 2_000


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """Half a surrogate pair in a captured log line ends a worker of pytest-xdist, which cannot send it on."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("run_number", "crash_every"), [(0, 0), (1, 0), (2, 400), (3, 800), (4, 1000)])
def test_every_odd_record_is_processed_or_a_dead_letter(run_number: int, crash_every: int) -> None:
    found = problems(run(SEED + run_number, RECORDS, crash_every=crash_every))
    assert not found, "\n".join([*found, f"repeat: SEED={SEED} pytest tests/fuzz -k {run_number}-{crash_every}"])
