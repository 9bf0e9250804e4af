"""`make clicks`: a million clicks through two workers, one of them killed every 20 s, everything counted.

5 % of the records repeat another, 1 % are late, 0.1 % are poison. CLICKS= and SEED= choose; the seed repeats a storm.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from campaign.stage import circumstances, stage
from clicks.storm import Storm

#: Without a terminal, a line this often tells that it is alive.
_NOTE_EVERY_S = 10.0


def main(arguments: list[str]) -> int:
    """Exit code 0: everything as the oracle says; 1: not."""
    parser = argparse.ArgumentParser(prog="make clicks", description=__doc__)
    parser.add_argument("--clicks", type=int, default=1_000_000, help="records, repeats and poison among them")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--kill-every", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--bound", type=float, default=3600.0, metavar="SECONDS", help="give up after so long")
    parser.add_argument("--report", type=Path, help="Markdown, written at the end")
    chosen = parser.parse_args(arguments)
    told_at = 0.0
    with stage("clicks", chosen.clicks) as on:

        def tell(done: int, total: int, kills: int) -> None:
            nonlocal told_at
            on.tell(completed=done, total=total, description=f"clicks, {kills} kills")
            if not on.console.is_terminal and time.monotonic() - told_at > _NOTE_EVERY_S:
                told_at = time.monotonic()
                on.note(f"{done:,} of {total:,} consumed, {kills} kills")

        storm = Storm(
            on.cluster,
            on.directory,
            chosen.seed,
            chosen.clicks,
            chosen.kill_every,
            chosen.bound,
            tell=tell,
            note=on.note,
        ).run()
    print(told(storm))
    if chosen.report:
        chosen.report.parent.mkdir(parents=True, exist_ok=True)
        chosen.report.write_text(report(storm))
    return 1 if storm.problems else 0


def report(storm: Storm) -> str:
    """The same, to be kept."""
    lines = [
        "# A storm of clicks",
        "",
        f"{circumstances()}; `make clicks CLICKS={storm.records} SEED={storm.seed}` repeats it.",
        "",
        "```text",
        told(storm),
        "```",
    ]
    return "\n".join(lines) + "\n"


def told(storm: Storm) -> str:
    """What was seen, one figure a line."""
    oracle, counts = storm.oracle, storm.counts
    rows = [
        ("seed", str(storm.seed)),
        ("records", f"{storm.records:,}"),
        *((f"  {kind}", f"{count:,}") for kind, count in sorted(oracle.made.items())),
        ("kills", f"{storm.kills:,}"),
        ("distinct clicks", f"{oracle.distinct:,}"),
        ("sum of their prices", f"{oracle.amount:,}"),
        *((topic, f"{count:,}") for topic, count in sorted(counts.items())),
        ("seconds to consume all", f"{storm.seconds:,.1f}"),
        ("records a second", f"{storm.records / max(storm.seconds, 0.001):,.0f}"),
        ("seconds of the audit", f"{storm.audit_s:,.1f}"),
    ]
    lines = [f"{name:28}{value:>16}" for name, value in rows]
    verdict = "FAIL" if storm.problems else "PASS"
    return "\n".join([*lines, *storm.problems, verdict])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
