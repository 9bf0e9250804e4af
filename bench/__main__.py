"""`python -m bench`: what `make bench` runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench import job
from bench.peers.catalogue import CATALOGUE, Peer
from bench.place import Place
from bench.results import Results, begun
from bench.rounds import Load, Round, Runner
from streamapp.cli import output
from streamapp.embedded.kafka import Kafka
from streamapp.errors import StreamAppError

DIRECTORY = Path(".streamapp/bench")
RESULTS = Path("bench/results.json")
PART = DIRECTORY / "part.json"
ROUNDS = 5
#: A round besides its clock: start, warm-up, stop, check.
_AROUND_S = 16.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def _root() -> None:
    """The reference job on this service and its peers, side by side."""


@app.command()
def run(
    only: Annotated[str, typer.Option(help=f"Some of: {', '.join(CATALOGUE)}.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each, in turn.")] = ROUNDS,
    count: Annotated[int, typer.Option(min=1000, help="Transfers a round, behind the warm-up.")] = 200_000,
    warm: Annotated[int, typer.Option(min=1, help="Transfers of the warm-up.")] = 100_000,
) -> None:
    """Run the job on all peers in turn (A B C A B C) and keep every round.

    The whole of it goes to bench/results.json; a part (--only, other rounds or counts) to .streamapp/bench/part.json.

    Example: `python -m bench run --only ours,quix --rounds 2`
    """
    peers = _chosen(only)
    whole = not only and rounds == ROUNDS and (count, warm) == (200_000, 100_000)
    path = RESULTS if whole else PART
    path.parent.mkdir(parents=True, exist_ok=True)
    load = Load("bench-transfers", job.PARTITIONS, warm, count)
    results = begun({"partitions": load.partitions, "warm": warm, "measured": count, "commit_interval_s": 0.1})
    try:
        with _place() as place:
            output.note(f"loading {warm + count:,} transfers")
            place.create(load.source, partitions=load.partitions)
            job.load(place.bootstrap, load.source, job.transfers(warm + count))
            _rounds(Runner(place, DIRECTORY / "run", load), peers, rounds, results, path)
        results.complete = True
    except KeyboardInterrupt:
        output.note("stopped; what was measured is kept")
    results.save(path)
    output.out.print(_table(results))
    output.note(f"written: {path}")
    if not results.complete:
        raise typer.Exit(130)


def _chosen(only: str) -> list[Peer]:
    names = [name.strip() for name in only.split(",") if name.strip()] or list(CATALOGUE)
    unknown = [name for name in names if name not in CATALOGUE]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: not one of {', '.join(CATALOGUE)}", param_hint="ONLY")
    return [CATALOGUE[name] for name in names]


@contextlib.contextmanager
def _place() -> Iterator[Place]:
    """One broker for the whole run, in an empty directory."""
    directory = DIRECTORY / "run"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with Kafka(directory / "kafka", port=0, die_with_parent=True) as kafka:
        yield Place(kafka.bootstrap)
    shutil.rmtree(directory / "kafka", ignore_errors=True)


def _rounds(runner: Runner, peers: list[Peer], rounds: int, results: Results, path: Path) -> None:
    plan = [(peer, n) for n in range(1, rounds + 1) for peer in peers if n <= (peer.rounds_max or rounds)]
    spent: dict[str, float] = {}
    for index, (peer, number) in enumerate(plan):
        left_s = sum(spent.get(other.name, _AROUND_S + 10) for other, _ in plan[index:])
        began = time.monotonic()
        with output.progress(transient=True) as progress:
            bar = progress.add_task(f"{peer.name}, round {number} of {rounds}", total=runner.records, rate="")

            def tell(done: int, progress=progress, bar=bar, began=began) -> None:  # type: ignore[no-untyped-def]
                rate = f"{done / (time.monotonic() - began):,.0f}/s with its start"
                progress.update(bar, completed=done, rate=rate)

            result = runner.run(peer, number, tell)
        spent[peer.name] = time.monotonic() - began
        results.rounds.append(result)
        results.save(path)
        _say(result, rounds, left_s - spent[peer.name])


def _say(result: Round, rounds: int, left_s: float) -> None:
    """One line a round."""
    if result.rate is None:
        text = f"no speed: {(result.problem or '').splitlines()[0]}"
        if len((result.problem or "").splitlines()) > 1:
            text += f" (see {DIRECTORY / 'run' / result.peer}.log)"
    else:
        text = (
            f"{result.rate:>9,.0f}/s  {result.cpu_s_per_million or 0:>6,.1f} CPU s/million  "
            f"{result.peak_mib:>5,.0f} MiB  {result.transfers:,} in {result.seconds:.1f} s"
        )
    output.err.print(
        f"round {result.number}/{rounds}  {result.peer:<11} {text}  (about {max(0, left_s) / 60:.0f} min left)",
        markup=False,
    )


def _table(results: Results) -> Table:
    made = output.table("program", "transfers/s ", "lowest ", "highest ", "CPU s/M ", "MiB ", "ours is ", "right ")
    for summary in results.summaries:
        made.add_row(
            summary.peer,
            _number(summary.rate),
            _number(summary.lowest),
            _number(summary.highest),
            _number(summary.cpu_s_per_million, 1),
            _number(summary.peak_mib),
            f"{summary.ours_to_it:.2f} x" if summary.ours_to_it else "-",
            f"{summary.right}/{summary.rounds}",
        )
    return made


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


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
