"""`make fuzz-workers`: odd records into whole workers on real Kafka, judged by a model and by the auditor.

RECORDS= and SEED= choose; the seed repeats the records.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from campaign.stage import circumstances, stage
from fuzzing.storm import Storm

#: Without a terminal, a line this often tells that it is alive.
_NOTE_EVERY_S = 10.0


def main(arguments: list[str]) -> int:
    """Exit code 0: every record is accounted for; 1: not."""
    parser = argparse.ArgumentParser(prog="make fuzz-workers", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--kill-every", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--bound", type=float, default=1500.0, metavar="SECONDS", help="give up after so long")
    parser.add_argument("--report", type=Path, help="Markdown, written at the end")
    chosen = parser.parse_args(arguments)
    told_at = 0.0
    with stage("fuzz", chosen.records) as on:

        def tell(done: int, total: int, kills: int) -> None:
            nonlocal told_at
            on.tell(completed=done, total=total, description=f"odd records, {kills} kills")
            if not on.console.is_terminal and time.monotonic() - told_at > _NOTE_EVERY_S:
                told_at = time.monotonic()
                on.note(f"{done:,} of {total:,} consumed, {kills} kills")

        storm = Storm(
            on.cluster, on.directory, chosen.seed, chosen.records, chosen.kill_every, chosen.bound, tell, on.note
        ).run()
    text = told(storm)
    print(text)
    if chosen.report:
        chosen.report.parent.mkdir(parents=True, exist_ok=True)
        repeat = f"`make fuzz-workers RECORDS={storm.records} SEED={storm.seed}` repeats it"
        chosen.report.write_text(
            f"# Odd records into whole workers\n\n{circumstances()}; {repeat}.\n\n```text\n{text}\n```\n"
        )
    return 1 if storm.problems else 0


def told(storm: Storm) -> str:
    """What was seen, one figure a line."""
    rows = [
        ("seed", str(storm.seed)),
        ("records", f"{storm.records:,}"),
        ("kills", f"{storm.kills:,}"),
        *((name, f"{count:,}") for name, count in sorted(storm.counts.items())),
        ("seconds to consume all", f"{storm.seconds:,.1f}"),
        ("records a second", f"{storm.records / max(storm.seconds, 0.001):,.0f}"),
    ]
    lines = [f"{name:28}{value:>16}" for name, value in rows]
    return "\n".join([*lines, *storm.problems, "FAIL" if storm.problems else "PASS"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
