"""`make stock`: the rows of docs/faust-defects.md that were reproduced, on stock Faust and on ours, side by side.

ROW= chooses rows, REPORT= keeps a report in Markdown. About fifteen minutes: stock Faust waits a lot.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import signal
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from comparison.clients import CLIENT_ROWS
from comparison.rows import ROWS, Row, Seen
from comparison.side import Side
from streamapp.embedded.kafka import Kafka

ENGINES = ("stock", "ours")
#: Row's numbers -> engine -> what was seen.
Looks = dict[str, dict[str, Seen]]
ALL = sorted((*ROWS, *CLIENT_ROWS), key=lambda row: int(row.numbers.split(",")[0]))


def main(arguments: list[str]) -> int:
    """Exit code 0: ours held every promise (what stock Faust does decides nothing); 1: it did not; 2: misuse."""
    parser = argparse.ArgumentParser(prog="make stock", description=__doc__)
    parser.add_argument("--row", choices=[row.numbers.split(",")[0] for row in ALL], action="append")
    parser.add_argument("--report", type=Path)
    chosen = parser.parse_args(arguments)
    rows = [row for row in ALL if not chosen.row or row.numbers.split(",")[0] in chosen.row]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no worker is left behind
    directory = Path(tempfile.mkdtemp(prefix="stock-"))
    print(f"files in {directory}", file=sys.stderr, flush=True)
    kafka = Kafka(directory / "kafka", port=0, die_with_parent=True)
    kafka.start()
    seen: Looks = {}
    try:
        for row in rows:
            seen[row.numbers] = {engine: _looked(row, engine, kafka.bootstrap, directory) for engine in ENGINES}
            if chosen.report:
                keep(chosen.report, {row.numbers: seen[row.numbers]})
    finally:
        kafka.kill()
    print(report(seen))
    return 0 if all(looks["ours"].held for looks in seen.values()) else 1


def keep(file: Path, fresh: Looks) -> None:
    """The report with these rows anew, in Markdown and beside it in JSON; rows that were looked at before stay."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".json")
    kept = json.loads(beside.read_text()) if beside.exists() else {}
    kept |= {number: {engine: list(seen) for engine, seen in looks.items()} for number, looks in fresh.items()}
    beside.write_text(json.dumps(kept, indent=1) + "\n")
    file.write_text(report({number: {e: Seen(*seen) for e, seen in looks.items()} for number, looks in kept.items()}))


def _looked(row: Row, engine: str, bootstrap: str, directory: Path) -> Seen:
    began, run = time.monotonic(), f"row{row.numbers.split(',')[0]}-{uuid.uuid4().hex[:6]}"
    try:
        with contextlib.closing(Side(bootstrap, engine, row.scenario, directory / run, run)) as side:
            seen = row.look(side)
    except Exception as exc:  # noqa: BLE001 - a row that breaks is a row that did not hold, and says by what
        seen = Seen(False, f"could not be looked at: {type(exc).__name__}: {exc}")
    held = "held" if seen.held else "BROKEN"
    print(f"{row.numbers:5} {engine:6} {held:6} {time.monotonic() - began:5.0f} s  {seen.text}", file=sys.stderr)
    return seen


def report(seen: Looks) -> str:
    """The report, in Markdown."""
    held = {engine: sum(looks[engine].held for looks in seen.values()) for engine in ENGINES}
    lines = [
        "# Stock Faust's exactly_once and ours, in the same scenarios",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, faust-streaming "
        f'{metadata.version("faust-streaming")} (`processing_guarantee="exactly_once"`, RocksDB), aiokafka '
        f"{metadata.version('aiokafka')}, streamapp {metadata.version('streamapp')}, embedded Kafka, one node. Rows 1 "
        "to 10, 18 and 21 are the same agents under `faust worker`, once on each engine; 11 to 15 are single calls of "
        "the clients. The numbers are those of [faust-defects.md](faust-defects.md).",
        "",
        f"**Of {len(seen)} promises stock Faust held {held['stock']}, ours {held['ours']}.** Some of its failures are "
        "a matter of chance (5, 7): a run without one proves nothing. An output is lost that nobody could read some "
        "seconds after the offset of its event was committed. `make stock REPORT=docs/stock-faust-report.md` "
        "repeats it.",
        "",
        "| # | scenario | stock Faust | ours |",
        "| --- | --- | --- | --- |",
    ]
    for row in (row for row in ALL if row.numbers in seen):
        looks = (seen[row.numbers][engine] for engine in ENGINES)
        cells = (f"{'held' if it.held else '**broken**'}: {it.text.replace('|', '/')}" for it in looks)
        lines.append(f"| {row.numbers} | {row.what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
