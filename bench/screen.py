"""What a person sees while a bench runs: a bar for what goes on, a line for what is done, tables at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.table import Table

from bench.capacity import Capacity
from bench.growth import Point
from bench.latency import Latency
from bench.restart import Restart
from bench.results import Results
from bench.rounds import OnProgress, Round
from streamapp.cli import output


class Clock:
    """Guesses the time that is left, from how long each kind of step took so far. `steps`: their names, in order."""

    def __init__(self, steps: list[str], guess_s: float) -> None:
        self._left = list(steps)
        self._guess_s = guess_s
        self._took_s: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """A step of this name is done."""
        now = time.monotonic()
        self._took_s[name], self._last = now - self._last, now
        self._left.remove(name)

    @property
    def left(self) -> str:
        """What is left, in words."""
        seconds = sum(self._took_s.get(name, self._guess_s) for name in self._left)
        return f"about {seconds / 60:.0f} min left" if seconds >= 60 else f"about {seconds:.0f} s left"


@contextlib.contextmanager
def bar(text: str, total: int | None = None) -> Iterator[OnProgress]:
    """A bar on a terminal; nothing in a pipe."""
    began = time.monotonic()
    with output.progress(transient=True) as progress:
        task = progress.add_task(text, total=total, rate="")

        def tell(done: int) -> None:
            rate = max(0, done) / (time.monotonic() - began + 1e-9)
            progress.update(task, completed=max(0, done), rate=f"{rate:,.0f}/s, its start included")

        yield tell


def say(text: str) -> None:
    """One line about what is done."""
    output.err.print(text, markup=False)


def say_round(result: Round, left: str) -> None:
    """One line a round."""
    say(f"round {result.number}  {result.peer:<11}{_round(result)}  ({left})")


def _round(result: Round) -> str:
    if result.rate is None:
        return f" no speed: {first_line(result.problem)}"
    return (
        f"{result.rate:>9,.0f}/s  {result.cpu_s_per_million or 0:>6,.1f} CPU s/million  {result.peak_mib:>5,.0f} MiB  "
        f"{result.transfers:,} in {result.seconds:.1f} s"
    )


def say_capacity(result: Capacity, left: str) -> None:
    """One line a round of capacity."""
    text = first_line(result.problem) if result.rate is None else f"{result.rate:,.0f} transfers/s"
    say(f"capacity {result.number} {result.peer:<11}{text}  ({left})")


def say_latency(result: Latency, left: str) -> None:
    """One line a round of latency."""
    text = first_line(result.problem)
    if result.problem is None:
        text = (
            f"p50 {result.p50_ms:,.0f}  p99 {result.p99_ms:,.0f}  p99.9 {result.p999_ms:,.0f} ms  "
            f"at {result.rate:,.0f} transfers/s"
        )
    say(f"latency {result.number}  {result.peer:<11}{text}  ({left})")


def say_restart(result: Restart, left: str) -> None:
    """One line a program."""
    killed = ", ".join(f"{seconds:.1f}" for seconds in result.killed_s) or "-"
    text = f"kill -9 to the next commit: {killed} s on {result.transfers:,} transfers"
    if result.restored_per_s:
        text += f"; restored {result.restored_per_s:,.0f} records/s"
    if result.problem:
        text += f"; {first_line(result.problem)}"
    say(f"restart    {result.peer:<11}{text}  ({left})")


def say_point(point: Point, left: str) -> None:
    """One line a round of growth."""
    restored = f"  restored {point.restored_per_s:,.0f}/s" if point.restored_per_s else ""
    say(f"{point.dimension} {point.value:>11,}  {_round(point.result)}{restored}  ({left})")


def first_line(text: str | None) -> str:
    """Of what may be a page of a program's last words."""
    return (text or "").partition("\n")[0]


def table(results: Results) -> Table:
    """The medians of a run."""
    made = output.table("program", "transfers/s ", "lowest ", "highest ", "CPU s/M ", "MiB ", "ours is ", "right ")
    for summary in results.summaries:
        made.add_row(
            summary.peer,
            number(summary.rate),
            number(summary.lowest),
            number(summary.highest),
            number(summary.cpu_s_per_million, 1),
            number(summary.peak_mib),
            f"{summary.ours_to_it:.2f} x" if summary.ours_to_it else "-",
            f"{summary.right}/{summary.rounds}",
        )
    return made


def number(value: float | None, digits: int = 0) -> str:
    """A figure with separators; a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"
