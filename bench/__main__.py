"""`python -m bench`: what `make bench` and `make bench-growth` run."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from bench import capacity, java, job, latency, page, restart, rounds, screen
from bench.growth import POINTS, Growth, Point
from bench.peers.catalogue import CATALOGUE
from bench.place import Place
from bench.plan import PARTS, Plan, planned
from bench.results import GrowthResults, Results, begun, growth_begun
from streamapp.cli import output
from streamapp.cli.embedded import fetching
from streamapp.embedded import jars
from streamapp.embedded.kafka import Kafka
from streamapp.errors import StreamAppError

DIRECTORY = Path(".streamapp/bench")
#: Emptied at the beginning of each run; the programs' logs stay.
WORKPLACE = DIRECTORY / "run"
RESULTS, GROWTH = Path("bench/results.json"), Path("bench/growth.json")
#: A round of the fast ones takes some seconds, and what one gives differs by a third: nine, for medians that stand.
ROUNDS, COUNT, WARM = 9, 200_000, 100_000
GROWTH_ROUNDS = 3

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def _root() -> None:
    """The reference job on this service and its peers, side by side."""


@app.command()
def run(
    only: Annotated[str, typer.Option(help=f"Some of: {', '.join(CATALOGUE)}, latency, restart.")] = "",
    number_of_rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of each, in turn.")] = ROUNDS,
    count: Annotated[int, typer.Option(min=1000, help="Transfers a round, behind the warm-up.")] = COUNT,
    warm: Annotated[int, typer.Option(min=1, help="Transfers of the warm-up.")] = WARM,
) -> None:
    """Run the job on all peers in turn (A B C A B C), then latency and restarts, and keep every round.

    The results go to .streamapp/bench/results.json as they come; the whole of it, once it is complete, to
    bench/results.json, docs/bench.md and docs/bench.svg.

    Example: `python -m bench run --only ours,quix --rounds 2`
    """
    parts = _chosen(only, [*CATALOGUE, *PARTS])
    whole = not only and (number_of_rounds, count, warm) == (ROUNDS, COUNT, WARM)
    path = DIRECTORY / RESULTS.name
    load = rounds.Load("bench-transfers", job.PARTITIONS, warm, count)
    results = begun({"partitions": load.partitions, "warm": warm, "measured": count, "commit_interval_s": 0.1})
    with _kept(results, path):
        _run(planned(parts, number_of_rounds), load, results, path)
        results.complete = True
    output.out.print(screen.table(results))
    _published(results, RESULTS, whole)


class _Run(NamedTuple):
    """What the parts of a run share."""

    place: Place
    load: rounds.Load
    results: Results
    path: Path
    clock: screen.Clock

    def done(self, step: str) -> str:
        """Keep what there is; the time that is left."""
        self.clock.lap(step)
        self.results.save(self.path)
        return self.clock.left


def _run(plan: Plan, load: rounds.Load, results: Results, path: Path) -> None:
    if plan.needs_java:
        with fetching() as on_progress:
            java.fetch(on_progress)
    with _place() as place:
        run = _Run(place, load, results, path, screen.Clock(plan.steps, guess_s=30))
        _rounds(run, plan)
        _capacities(run, plan)
        _latencies(run, plan)
        _restarts(run, plan)


def _rounds(run: _Run, plan: Plan) -> None:
    load, place = run.load, run.place
    if plan.rounds:
        with screen.bar("loading the transfers", load.records) as tell:
            place.create(load.source, partitions=load.partitions)
            job.load(place.bootstrap, load.source, job.transfers(load.records), tell)
    for name, number in plan.rounds:
        with screen.bar(f"{name}, round {number}", load.records) as tell:
            result = rounds.run(place, CATALOGUE[name], number, WORKPLACE, load, tell)
        run.results.rounds.append(result)
        screen.say_round(result, run.done(name))


def _capacities(run: _Run, plan: Plan) -> None:
    for name, number in plan.capacities:
        with screen.bar(f"capacity of {name}, round {number}") as tell:
            result = capacity.measure(run.place, CATALOGUE[name], number, WORKPLACE, run.load.partitions, tell)
        run.results.capacities.append(result)
        screen.say_capacity(result, run.done(f"capacity of {name}"))


def _latencies(run: _Run, plan: Plan) -> None:
    for name, number, whose in plan.latencies:
        found = run.results.capacity(whose)
        load = latency.Load(whose, round((found or 0.0) / 2, -2))
        with screen.bar(f"latency of {name}, round {number}") as tell:
            result = latency.measure(run.place, CATALOGUE[name], number, load, WORKPLACE, run.load.partitions, tell)
        run.results.latencies.append(result)
        screen.say_latency(result, run.done(f"latency of {name}"))


def _restarts(run: _Run, plan: Plan) -> None:
    for name in plan.restarts:
        with screen.bar(f"restarts of {name}") as tell:
            result = restart.measure(run.place, CATALOGUE[name], WORKPLACE, run.load.partitions, tell)
        run.results.restarts.append(result)
        screen.say_restart(result, run.done(f"restart of {name}"))


@app.command("growth")
def growth_(
    only: Annotated[str, typer.Option(help=f"Some of: {', '.join(POINTS)}.")] = "",
    number_of_rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of each point.")] = GROWTH_ROUNDS,
) -> None:
    """How our speed holds as partitions, keys, ids, bytes a record and workers grow.

    The results go to .streamapp/bench/growth.json as they come; the whole of it, once it is complete, to
    bench/growth.json and docs/bench.md.

    Example: `python -m bench growth --only ids --rounds 1`
    """
    dimensions = _chosen(only, list(POINTS))
    whole = not only and number_of_rounds == GROWTH_ROUNDS
    path = DIRECTORY / GROWTH.name
    results = growth_begun()
    clock = screen.Clock([name for name in dimensions for _ in POINTS[name] for _ in range(number_of_rounds)], 25)
    with _kept(results, path):
        with _place() as place:
            for name in dimensions:
                _grow(place, name, number_of_rounds, results, path, clock)
        results.complete = True
    _published(results, GROWTH, whole)


def _grow(
    place: Place, dimension: str, number_of_rounds: int, results: GrowthResults, path: Path, clock: screen.Clock
) -> None:
    def tell(point: Point) -> None:
        clock.lap(dimension)
        results.points.append(point)
        results.save(path)
        screen.say_point(point, clock.left)

    with screen.bar(f"growth of {dimension}") as on_progress:
        Growth(place, WORKPLACE, number_of_rounds, tell).run(dimension, on_progress)


@app.command("page")
def page_() -> None:
    """Write tables and picture of docs/bench.md anew from bench/results.json and bench/growth.json.

    Example: `python -m bench page`
    """
    page.rewrite(RESULTS, GROWTH)


def _chosen(only: str, known: list[str]) -> list[str]:
    names = [name.strip() for name in only.split(",") if name.strip()] or known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: not one of {', '.join(known)}", param_hint="ONLY")
    return names


@contextlib.contextmanager
def _kept(results: Results | GrowthResults, path: Path) -> Iterator[None]:
    """Whatever ends the run, what was measured is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except KeyboardInterrupt:
        screen.say("stopped; what was measured is kept")
    finally:
        results.save(path)
        output.note(f"written: {path}")


def _published(results: Results | GrowthResults, path: Path, whole: bool) -> None:
    """A whole run becomes the published one; what was cut short, or a part, does not."""
    if not results.complete:
        raise typer.Exit(130)
    if whole:
        results.save(path)
        page.rewrite(RESULTS, GROWTH)
        output.note(f"published: {path}, {page.PAGE}, {page.PICTURE}")


@contextlib.contextmanager
def _place() -> Iterator[Place]:
    """One broker for the whole run, in an empty directory."""
    shutil.rmtree(WORKPLACE, ignore_errors=True)
    WORKPLACE.mkdir(parents=True)
    with fetching() as on_progress:
        jars.ensure(on_progress=on_progress)
    # Its JVM is that of Kafka's own start script, as programs meet it in service (ADR 0019).
    kafka = Kafka(WORKPLACE / "kafka", port=0, heap_mib=1024, die_with_parent=True, long_lived=True)
    with kafka:
        yield Place(kafka.bootstrap)
    shutil.rmtree(WORKPLACE / "kafka", ignore_errors=True)


def main() -> None:
    """The command line; errors of ours as sentences."""
    os.chdir(Path(__file__).parents[1])
    try:
        app(prog_name="python -m bench")
    except StreamAppError as exc:
        output.error(str(exc))
        sys.exit(output.FAILED)


if __name__ == "__main__":
    main()
