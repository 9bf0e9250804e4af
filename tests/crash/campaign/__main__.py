"""`make crash`: every point in every way, with a table at the end and a kept report.

SEED= repeats a campaign; POINT= and WAY= choose single shots.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from campaign.catalogue import BY_NAME, POINTS, Point, Way
from campaign.cluster import Cluster
from campaign.shot import Result, Shot
from streamapp.embedded.kafka import Kafka


def main(arguments: list[str]) -> int:
    """Exit code 0: every shot passed; 1: one did not; 2: misuse."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--point", choices=sorted(BY_NAME), action="append")
    parser.add_argument("--way", choices=[str(way) for way in Way], action="append")
    parser.add_argument("--dynamic", action="store_true", help="workers without INSTANCE")
    parser.add_argument("--keep", action="store_true", help="keep the files of shots that passed, too")
    parser.add_argument("--report", type=Path, help="Markdown; the JSON is written beside it")
    chosen = parser.parse_args(arguments)
    points = [BY_NAME[name] for name in chosen.point] if chosen.point else list(POINTS)
    ways = [Way(name) for name in chosen.way] if chosen.way else list(Way)
    results = campaign(
        [(point, way) for point in points for way in ways], chosen.seed, keep=chosen.keep, named=not chosen.dynamic
    )
    text = table(results, chosen.seed)
    print(text)
    if chosen.report:
        chosen.report.write_text(text)
        kept = {"seed": chosen.seed, "shots": [vars(result) for result in results]}
        chosen.report.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")
    return 0 if all(result.passed for result in results) else 1


def campaign(shots: list[tuple[Point, Way]], seed: int, *, keep: bool, named: bool) -> list[Result]:
    """Fire the shots one after the other on one broker."""
    console = Console(stderr=True)
    results: list[Result] = []
    directory = Path(tempfile.mkdtemp(prefix="crash-"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    kafka = Kafka(directory / "kafka", port=0, die_with_parent=True)
    kafka.start()
    cluster = Cluster(kafka.bootstrap)
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            running = progress.add_task("shots", total=len(shots))
            for point, way in shots:
                progress.update(running, description=f"{point.name} {way}")
                logs = kafka.nodes[0].directory / "data"
                result = Shot(cluster, logs, directory, point, way, seed, keep=keep, named=named).run()
                results.append(result)
                progress.advance(running)
                console.print(_line(result), markup=False, highlight=False)
    finally:
        cluster.close()
        kafka.kill()
    return results


def _line(result: Result) -> str:
    if result.passed:
        return f"PASS {result.point:5} {result.way:9} {result.seconds:5.1f} s"
    problems = "".join(f"\n     {problem}" for problem in result.problems)
    head = f"FAIL {result.point:5} {result.way:9} {result.seconds:5.1f} s{problems}"
    return f"{head}\n     {result.again}\n     {result.directory}"


def table(results: list[Result], seed: int) -> str:
    """The report, in Markdown."""
    passed = sum(result.passed for result in results)
    lines = [
        "# Crash campaign",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {seed}, Python {platform.python_version()}, "
        f"streamapp {metadata.version('streamapp')}, aiokafka {metadata.version('aiokafka')}, "
        f"faust-streaming {metadata.version('faust-streaming')}, embedded Kafka, one node.",
        "",
        f"**{passed} of {len(results)} shots passed.** `make crash SEED={seed}` repeats them.",
        "",
        "| point | where | way | hits | audit | verdict | first new commit (s) | zombie | shot (s) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for it in results:
        commit = "-" if it.commit_s is None else f"{it.commit_s:.1f}"
        zombie = f"{it.zombie} after {it.zombie_s:.1f} s" if it.zombie_s is not None else ""
        verdict = "PASS" if it.passed else "FAIL"
        lines.append(
            f"| {it.point} | {BY_NAME[it.point].what} | {it.way} | {it.hits} | {it.audit} | {verdict} "
            f"| {commit} | {zombie} | {it.seconds:.1f} |"
        )
    for it in results:
        if not it.passed:
            lines += ["", f"## {it.point} {it.way}: `{it.again}`", "", *(f"- {problem}" for problem in it.problems)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
