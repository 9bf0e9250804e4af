"""Seeded schedules on the broker in memory: the real producer, commit, fencing and recovery under every fault.

SCHEDULES=100000 runs more of them, SEED=7 that one alone.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from simulation import Violation, simulate_all

SCHEDULES = int(os.environ.get("SCHEDULES", "10000"))
BLOCK = 100
ONLY = os.environ.get("SEED")
SEEDS = [range(int(ONLY), int(ONLY) + 1)] if ONLY else [range(at, at + BLOCK) for at in range(0, SCHEDULES, BLOCK)]
REPEATED = "tests/simulation/test_schedules.py -k nothing_is_lost"
ACTED: Counter[str] = Counter()


def _begin() -> None:
    """In each process: behind the tests that wait for Kafka and measure time. What a worker says about thousands of
    faults helps nobody, except when one seed is looked at."""
    os.nice(10)
    if not ONLY:
        logging.disable(logging.CRITICAL)


@pytest.fixture(scope="module")
def blocks() -> Iterator[dict[range, Future[Counter[str]]]]:
    """All of them, begun at once, on every core."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _begin) as pool:
        yield {seeds: pool.submit(simulate_all, seeds) for seeds in SEEDS}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seeds", SEEDS, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_nothing_is_lost_doubled_or_torn(blocks: dict[range, Future[Counter[str]]], seeds: range) -> None:
    try:
        ACTED.update(blocks[seeds].result())
    except Violation as exc:
        seed = str(exc).split(":")[0].removeprefix("seed ")
        raise Violation(f"{exc}\nRepeat it with: SEED={seed} .venv/bin/python -m pytest {REPEATED}") from exc


@pytest.mark.skipif(ONLY is not None, reason="one seed does not have every fault")
def test_every_fault_acted() -> None:
    """A fault that never happened proves nothing, nor does work that waited until all was well."""
    calls = ("produce", "commit_offsets", "end_transaction", "init_producer_id")
    kinds = ("request lost", "answer lost", "delayed", "repeated", "refused")
    wanted = {f"{call}: {kind}" for call in calls for kind in kinds}
    wanted |= {f"{call}: killed in it" for call in (*calls[:3], "fetch_offsets", "fetch")}
    wanted |= {"committed", "aborted", "fenced", "ended by a twin", "interrupted", "agent failed"}
    wanted |= {"kill", "freeze", "twin", "list_offsets: refused", "fetch_offsets: refused"}
    wanted |= {"asked for another assignment"}
    wanted |= {f"{what}, the next one half done" for what in ("settled", "aborted", "interrupted")}
    assert not {fault for fault in wanted if not ACTED[fault]}
    assert ACTED["inputs done under faults"] > ACTED["inputs"] / 2


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Also under another PYTHONHASHSEED, so no order comes out of a set."""
    program = (
        "import logging, simulation; logging.disable(50); print([simulation.simulate(s).digest for s in range(8)])"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            timeout=100,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(runs) == 1
