"""What every command prints with: results on standard output, everything else on standard error.

A command's result is a table for people or, with `--json`, one JSON object. Progress, notes and errors go to
standard error, so that a pipe carries the result alone; colours appear only on a terminal.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

#: Exit codes of every command.
DONE, FAILED, MISUSE = 0, 1, 2

#: The result.
out = Console(soft_wrap=True, highlight=False)
#: Progress, notes, errors.
err = Console(stderr=True, soft_wrap=True, highlight=False)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def emit_json(result: Any) -> None:
    """The result as one JSON object on standard output, keys in the order given."""
    out.print(msgspec.json.encode(result).decode(), markup=False, emoji=False)


def note(text: str) -> None:
    """One line about what is going on, on standard error."""
    err.print(text, style="dim", markup=False)


def error(text: str) -> None:
    """What happened, what was kept, what to do: one or several lines on standard error."""
    first, *rest = text.splitlines() or [""]
    err.print("error:", style="bold red", end=" ")
    err.print(first, markup=False)
    for line in rest:
        err.print("      ", line, markup=False)


def table(*columns: str, title: str | None = None) -> Table:
    """A table in the house's look; columns whose name ends in a space are aligned to the right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.rstrip(), justify="right" if column.endswith(" ") else "left")
    return made


def progress(*, transient: bool = False) -> Progress:
    """A progress display on standard error: spinner, text, bar, count, field `rate`, time. Silent in a pipe."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=err,
        transient=transient,
        disable=not err.is_terminal,
    )
