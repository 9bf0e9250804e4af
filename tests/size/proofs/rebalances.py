"""No thread, task or open file is left by 100 starts and 100 rebalances: the test of `make test`, at its real size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from campaign.worker import REPOSITORY
from proofs.finding import Finding
from proofs.ground import say

#: Starts and stops; half as many workers join the group and leave it again, which is two rebalances each.
CYCLES = 100
TEST = "tests/integration/test_agents_rebalance.py::test_nothing_is_left_behind_by_starts_stops_and_rebalances"
_BOUND_S = 900


def run(directory: Path) -> list[Finding]:
    """About three minutes."""
    say(f"{CYCLES} starts and stops, then {CYCLES} rebalances")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", f"timeout={_BOUND_S}", TEST],
        cwd=REPOSITORY,
        env={**os.environ, "AGENTS_CYCLES": str(CYCLES)},
        capture_output=True,
        text=True,
        timeout=_BOUND_S + 60,
        check=False,
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "pytest.log").write_text(ended.stdout + ended.stderr)
    last = (ended.stdout.strip().splitlines() or ["nothing was said"])[-1]
    what = f"threads, tasks and open files left behind by {CYCLES} starts and {CYCLES} rebalances: the test failed"
    return [Finding(what, ended.returncode != 0, "", 0, note=last)]
