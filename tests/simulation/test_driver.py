"""The whole driver under seeded faults, and what is wrong with a driver in which one thing is done wrong."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import driver
from planted_store import plant_store

from streamapp.engine.after_commit import AfterCommit
from streamapp.engine.consumed_offsets import ConsumedOffsets
from streamapp.engine.ownership import Ownership
from streamapp.engine.participant import InFlightTransaction
from streamapp.engine.table_changes import TableChanges
from streamapp.engine.task import Task
from streamapp.engine.timers import Timers
from streamapp.eos.producer import Producer
from streamapp.state import StoreTransaction, TablePartition
from streamapp.types import Partition

SEEDS = int(os.environ.get("DRIVER_SEEDS", "100"))
ONLY = os.environ.get("SEED")
CAUGHT_WITHIN = 100

Mutant = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    driver.plant(tmp_path, monkeypatch)
    if not ONLY:
        logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    sys.modules.pop(driver.MODULE, None)


def _one(seed: int, patch: pytest.MonkeyPatch) -> Counter[str]:
    try:
        return driver.run(seed, patch)
    except Exception as exc:
        repeat = f"SEED={seed} .venv/bin/python -m pytest tests/simulation/test_driver.py -k everything_happens_once"
        raise AssertionError(f"seed {seed}: {exc}\nRepeat it with: {repeat}") from exc


@pytest.mark.timeout(300)
def test_everything_happens_once(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: Counter[str] = Counter()
    for seed in [int(ONLY)] if ONLY else range(SEEDS):
        happened.update(_one(seed, monkeypatch))
    if not ONLY:
        wanted = ("rebalances", "crashes", "aborts", "produce: MESSAGE_TOO_LARGE", "end_transaction: answer lost")
        assert not [what for what in wanted if happened[what] < SEEDS / 50]


def the_next_ones_records_survive_an_abort(patch: pytest.MonkeyPatch) -> None:
    def kept(self: Producer) -> None:
        self._sealed = None

    patch.setattr(Producer, "forget", kept)


def the_next_ones_rows_survive_an_abort(patch: pytest.MonkeyPatch) -> None:
    def kept(self: TablePartition) -> None:
        self._sealed = {}

    plant_store(patch, abort=kept)


def reads_miss_what_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    def blind(self: TablePartition) -> StoreTransaction:
        return StoreTransaction(self, self.overlay, self._storage.get)

    plant_store(patch, begin=blind)


def ranges_miss_what_is_in_flight(patch: pytest.MonkeyPatch) -> None:
    plant_store(patch, layers=lambda self, start, stop: self._storage.layers(start, stop))


def settled_after_the_next_one_was_sealed(patch: pytest.MonkeyPatch) -> None:
    """Were that possible: without the guard of `seal`, what is in flight would be overwritten."""
    committed, seal = TableChanges.committed, TableChanges.seal
    waiting: list[Any] = []

    def later(self: TableChanges, transaction: InFlightTransaction) -> None:
        waiting.append((transaction, self._sealed))

    def before(self: TableChanges, transaction: InFlightTransaction) -> None:
        seal(self, transaction)
        sealed = self._sealed
        while waiting:
            settled, self._sealed = waiting.pop()
            committed(self, settled)
        self._sealed = sealed

    patch.setattr(TableChanges, "committed", later)
    patch.setattr(TableChanges, "seal", before)


class Finished(Mapping[Partition, int]):
    """How far a task's events have finished, at the instant it is asked."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getitem__(self, at: Partition) -> int:
        return self._task.inputs[at].offset

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._task.inputs)

    def __len__(self) -> int:
        return len(self._task.inputs)


def offsets_of_the_end(patch: pytest.MonkeyPatch) -> None:
    """The offsets that are sent are those of the events that have finished by then."""
    whole = ConsumedOffsets.seal

    def live(self: ConsumedOffsets, transaction: InFlightTransaction) -> None:
        whole(self, transaction)
        (task, *_) = transaction.owned.tasks
        transaction.offsets = Finished(task)  # type: ignore[assignment]

    patch.setattr(ConsumedOffsets, "seal", live)


def timers_runs_of_the_next_one_are_taken_for_committed(patch: pytest.MonkeyPatch) -> None:
    def all_of_them(self: Timers, transaction: InFlightTransaction) -> None:
        self._sealed, self._open = [], []

    patch.setattr(Timers, "committed", all_of_them)


def timers_runs_in_flight_are_lost_by_an_abort(patch: pytest.MonkeyPatch) -> None:
    def open_ones(self: Timers, owned: Ownership) -> None:
        self._again = self._open + self._again
        self._sealed, self._open = [], []

    patch.setattr(Timers, "aborted", open_ones)


def intents_in_flight_are_lost_by_the_next_seal(patch: pytest.MonkeyPatch) -> None:
    """Only what the store shows at the settling is run: by then it is the next one's."""
    from streamapp.delivery.after_commit import ordered

    def shown(self: AfterCommit, transaction: InFlightTransaction) -> None:
        for line in self._lines:
            line.removed, line.fresh = [], []
            line.add(ordered(line.store.changes()))

    patch.setattr(AfterCommit, "committed", shown)


def marks_looked_up_ahead_are_believed_beyond_a_seal(patch: pytest.MonkeyPatch) -> None:
    """What was not there when it was looked up has been sealed since, and is no longer in the overlay."""
    seal = TablePartition.seal

    def unchanged(self: TablePartition) -> Any:
        before = self.version
        changes = seal(self)
        self.version = before
        return changes

    plant_store(patch, seal=unchanged)


MUTANTS: tuple[Mutant, ...] = (
    the_next_ones_records_survive_an_abort,
    the_next_ones_rows_survive_an_abort,
    reads_miss_what_is_in_flight,
    ranges_miss_what_is_in_flight,
    settled_after_the_next_one_was_sealed,
    offsets_of_the_end,
    timers_runs_of_the_next_one_are_taken_for_committed,
    timers_runs_in_flight_are_lost_by_an_abort,
    intents_in_flight_are_lost_by_the_next_seal,
    marks_looked_up_ahead_are_believed_beyond_a_seal,
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_driver_with_a_mistake_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    for seed in range(CAUGHT_WITHIN):
        try:
            driver.run(seed, monkeypatch)
        except Exception as exc:  # noqa: BLE001  (a mutant may show as a defect, too)
            assert not isinstance(exc, (AttributeError, TypeError, NameError)), f"not what it was meant to be: {exc!r}"
            return
    pytest.fail(f"{mutant.__name__} survived {CAUGHT_WITHIN} seeds: they do not see it")
