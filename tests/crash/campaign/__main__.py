"""`make crash`: every point in every way, with a table at the end and a kept report.

SEED= repeats a campaign; POINT= and WAY= choose single shots.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from campaign.catalogue import BY_NAME, POINTS, Point, Way
from campaign.shot import ZOMBIE_S, Result, Shot
from campaign.stage import circumstances, stage


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
    # One round has every point once, each in another way than in the round before: cut short, it has seen all points.
    shots = [(point, ways[(i + turn) % len(ways)]) for turn in range(len(ways)) for i, point in enumerate(points)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no worker is left behind
    results: list[Result] = []
    try:
        for result in campaign(shots, chosen.seed, keep=chosen.keep, named=not chosen.dynamic):
            results.append(result)
            if chosen.report:
                keep_report(chosen.report, results, len(shots), chosen.seed)
    except KeyboardInterrupt:
        print("cut short", file=sys.stderr)
    print(table(results, len(shots), chosen.seed))
    return 0 if len(results) == len(shots) and all(result.passed for result in results) else 1


def keep_report(file: Path, results: list[Result], planned: int, seed: int) -> None:
    """The report so far, in Markdown and beside it in JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(table(results, planned, seed))
    kept = {"seed": seed, "planned": planned, "shots": [vars(result) | {"directory": ""} for result in results]}
    file.with_suffix(".json").write_text(json.dumps(kept, indent=1) + "\n")


def campaign(shots: list[tuple[Point, Way]], seed: int, *, keep: bool, named: bool) -> Iterator[Result]:
    """Fire the shots one after the other on one broker, and yield what each showed."""
    with stage("crash", len(shots)) as on:
        for point, way in shots:
            on.tell(description=f"{point.name} {way}")
            result = Shot(
                on.cluster, on.logs, on.directory, point, way, seed, keep=keep, named=named, zombie_within_s=ZOMBIE_S
            ).run()
            on.tell(advance=1)
            on.note(_line(result))
            yield result


def _line(result: Result) -> str:
    if result.passed:
        return f"PASS {result.point:5} {result.way:9} {result.seconds:5.1f} s"
    problems = "".join(f"\n     {problem}" for problem in result.problems)
    head = f"FAIL {result.point:5} {result.way:9} {result.seconds:5.1f} s{problems}"
    return f"{head}\n     {result.again}\n     {result.directory}"


def _figures(results: list[Result]) -> list[str]:
    """What a reader looks for first: the points that were hit, and the slowest of each kind."""
    hit = {it.point for it in results if it.hits}
    lines = [f"Points hit: {len(hit)} of {len({it.point for it in results})}."]
    if commits := sorted((it.commit_s, f"{it.point} {it.way}") for it in results if it.commit_s is not None):
        seconds, shot = commits[-1]
        median = statistics.median(it for it, _ in commits)
        lines.append(f"First new commit after the fault: median {median:.1f} s, slowest {seconds:.1f} s ({shot}).")
    if zombies := sorted((it.zombie_s, it.point) for it in results if it.zombie_s is not None):
        seconds, shot = zombies[-1]
        lines.append(
            f"Zombies gone or back after their thaw: slowest {seconds:.1f} s ({shot}), {ZOMBIE_S:g} s allowed."
        )
    return ["", *(f"- {line}" for line in lines)]


def table(results: list[Result], planned: int, seed: int) -> str:
    """The report, in Markdown."""
    passed = sum(result.passed for result in results)
    lines = [
        "# Crash campaign",
        "",
        f"Seed {seed}, {circumstances('aiokafka', 'faust-streaming')}.",
        "",
        f"**{passed} of {len(results)} shots passed**, of {planned} planned. `make crash SEED={seed}` repeats it.",
        *_figures(results),
        "",
        "| point | where | way | hits | audit | verdict | first new commit (s) | zombie | shot (s) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for it in sorted(results, key=lambda result: list(BY_NAME).index(result.point)):
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
