"""The schedules have teeth: each way of doing the engine wrong is found within a few hundred seeds."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mutants import MUTANTS, Mutant
from simulation import simulate

SEEDS = 600


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    for seed in range(SEEDS):
        try:
            simulate(seed)
        except Exception as exc:  # noqa: BLE001  (a mutant may show as a defect, too)
            assert not isinstance(_root(exc), _MISTAKES), f"{mutant.__name__} is not what it was meant to be: {exc!r}"
            return
    pytest.fail(f"{mutant.__name__} survived {SEEDS} seeds: the schedules do not see it")


#: What a mutant raises that no longer fits the code it changes.
_MISTAKES = (AttributeError, TypeError, NameError)


def _root(failure: BaseException) -> BaseException:
    """What lies below a chain of causes and groups."""
    while True:
        if failure.__cause__ is not None:
            failure = failure.__cause__
        elif isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        else:
            return failure
