"""`make size`: restart, restore, memory, rebalances, the storm and the thawed zombie, at the size that was promised.

ONLY= chooses sections, REPORT= keeps a report in Markdown. About fifteen minutes, with the machine to itself: it
measures time.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from proofs import memory, rebalances, restart, storm, zombie
from proofs.finding import Finding
from proofs.ground import say

SECTIONS: dict[str, Callable[[Path], list[Finding]]] = {
    "restart": restart.run,
    "memory": memory.run,
    "rebalances": rebalances.run,
    "storm": storm.run,
    "zombie": zombie.run,
}


def main(arguments: list[str]) -> int:
    """Exit code 0: every promise was kept; 1: one was not; 2: misuse."""
    parser = argparse.ArgumentParser(prog="make size", description=__doc__)
    parser.add_argument("--only", choices=SECTIONS, action="append")
    parser.add_argument("--report", type=Path, help="Markdown; sections that were run before stay in it")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no worker is left behind
    directory = Path(tempfile.mkdtemp(prefix="size-"))
    passed = True
    for name in chosen.only or SECTIONS:
        say(f"{name}: files in {directory / name}")
        findings = SECTIONS[name](directory / name)
        passed = passed and all(finding.passed for finding in findings)
        print("\n".join(finding.row for finding in findings), flush=True)
        if chosen.report:
            keep(chosen.report, name, findings)
    return 0 if passed else 1


def keep(file: Path, name: str, findings: list[Finding]) -> None:
    """Put a section into the report, in the place of its last run."""
    sections = _kept(file)
    when = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, streamapp "
        f"{metadata.version('streamapp')}, aiokafka {metadata.version('aiokafka')}, embedded Kafka, one node"
    )
    head = ["| what | seen | bound | verdict | |", "| --- | --- | --- | --- | --- |"]
    again = f"`make size ONLY={name} REPORT={file}` repeats it."
    sections[name] = "\n".join([f"{when}. {again}", "", *head, *(finding.row for finding in findings)])
    file.parent.mkdir(parents=True, exist_ok=True)
    intro = (
        "# What was promised about size and time, and what was seen\n\nKept by `make size`; each section by its own."
    )
    parts = [f"## {key}\n\n{sections[key]}" for key in SECTIONS if key in sections]
    file.write_text("\n\n".join([intro, *parts]) + "\n")


def _kept(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    parts = file.read_text().split("\n## ")[1:]
    return {name: text.strip() for name, _, text in (part.partition("\n") for part in parts)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
