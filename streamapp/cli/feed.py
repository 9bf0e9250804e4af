"""`streamapp feed`: records from a file, a pipe or the CDNOW purchases, with a true count of what was acknowledged."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from streamapp.cli import output
from streamapp.errors import ConfigurationError
from streamapp.ops import cdnow as source
from streamapp.ops.feed import KINDS, FeedCount, FeedKind, FeedResult, Outcome, feed, numbered
from streamapp.ops.lines import InputLine, read_lines
from streamapp.settings import load
from streamapp.topics import MAX_RECORD_BYTES

#: Bad lines that are printed one by one; the rest is counted.
SHOWN_BAD_LINES = 20
#: Exit code of a program that a signal ended early (128 + SIGINT), whichever signal it was.
INTERRUPTED = 130


class OnError(StrEnum):
    """What a bad line does."""

    STOP = "stop"
    SKIP = "skip"


RateOption = Annotated[
    float | None,
    typer.Option("--rate", min=0.001, help="Records a second, evenly spread. Default: as fast as it goes."),
]
OnErrorOption = Annotated[
    OnError, typer.Option("--on-error", help="A bad line (no JSON object, no key, over 1 MiB) stops or is skipped.")
]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="One JSON object a line; `-` is stdin.")]


def register(app: typer.Typer) -> None:
    """Add the group `feed`: a command for each kind of record, and the real input."""
    group = typer.Typer(no_args_is_help=True, help="Send records, and say what was acknowledged.")
    for name, kind in KINDS.items():
        group.command(name, help=_help(name, kind))(_command(kind))
    group.command("cdnow")(cdnow)
    app.add_typer(group, name="feed")


def _help(name: str, kind: FeedKind) -> str:
    return (
        f"Send records to the topic `{kind.topic}`, keyed by `{kind.key_field}`, each line's bytes unchanged.\n\n"
        "Exit code 1: a line was bad, or something was not acknowledged; 130: interrupted, the count is true.\n\n"
        f"Example: `streamapp feed {name} {name}.jsonl --rate 1000 --on-error skip`"
    )


def _command(kind: FeedKind) -> Callable[..., None]:
    def send(
        file: FileArgument,
        rate: RateOption = None,
        on_error: OnErrorOption = OnError.STOP,
        as_json: output.JsonOption = False,
    ) -> None:
        with _opened(file) as descriptor:
            result = _fed(kind, read_lines(descriptor, MAX_RECORD_BYTES), None, rate, on_error)
        if as_json:
            output.emit_json(_as_json(kind, result))
        else:
            _print([(kind, result)])
        _end(result)

    return send


def cdnow(
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N purchases.")] = None,
    rate: RateOption = None,
    as_json: output.JsonOption = False,
) -> None:
    """Send 69,659 real purchases (CDNOW, 1997 to 1998): first each as a transfer, then each as a payment.

    They go in the order of their days, to the account `merchant:cdnow` and to the merchant `cdnow`. The file is fetched
    once with pip, verified by checksum and kept in the user's cache directory.

    Example: `streamapp feed cdnow --limit 1000`
    """
    path, total = source.fetch(), min(limit or source.LINES, source.LINES)
    results: list[tuple[FeedKind, FeedResult]] = []
    try:
        for name, records in (("transfers", source.transfers(path)), ("payments", source.payments(path))):
            lines = numbered(itertools.islice(records, limit))
            results.append((KINDS[name], _fed(KINDS[name], lines, total, rate, OnError.STOP)))
            if not results[-1][1].clean:
                break
    finally:  # what was fed is told, also when the second topic is missing
        if as_json:
            output.emit_json({"feeds": [_as_json(kind, result) for kind, result in results]})
        elif results:
            _print(results)
    _end(results[-1][1])


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[int]:
    if str(file) == "-":
        if sys.stdin is None:  # closed: its number may be anything by now
            raise ConfigurationError("Standard input is closed. Nothing was sent.")
        yield sys.stdin.fileno()
        return
    try:
        descriptor = os.open(file, os.O_RDONLY)
        os.read(descriptor, 0)  # a directory opens, and refuses only to be read
    except OSError as exc:
        raise ConfigurationError(f"{file}: {exc.strerror}. Nothing was sent.") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _fed(
    kind: FeedKind,
    lines: Iterable[InputLine | None],
    total: int | None,
    rate: float | None,
    on_error: OnError,
) -> FeedResult:
    """Feed with progress, and explain what was not acknowledged."""
    settings = load()
    bad = _BadLines()
    with output.progress() as progress, _stopped_by_signals() as stop:
        bar = progress.add_task(f"feeding {kind.topic}", total=total, rate="")

        def tell(count: FeedCount) -> None:
            rate = f"{count.acknowledged:,} acknowledged, {count.rate:,.0f}/s"
            progress.update(bar, completed=count.acknowledged, rate=rate)

        try:
            result = feed(
                settings, kind, lines, rate=rate, on_error=on_error.value, on_bad_line=bad, on_progress=tell, stop=stop
            )
        except ConfigurationError as exc:
            # The command line is right and the cluster is not: failed, not misuse.
            progress.stop()
            output.error(str(exc))
            raise typer.Exit(output.FAILED) from None
    bad.tell_rest()
    _explain(result)
    return result


def _end(result: FeedResult) -> None:
    """Exit with the code of this result."""
    if result.outcome is Outcome.INTERRUPTED:
        raise typer.Exit(INTERRUPTED)
    if not result.clean:
        raise typer.Exit(output.FAILED)


class _BadLines:
    """Prints the first bad lines and counts the rest."""

    def __init__(self) -> None:
        self._seen = 0

    def __call__(self, number: int, reason: str) -> None:
        self._seen += 1
        if self._seen <= SHOWN_BAD_LINES:
            output.err.print(f"line {number}: {reason}", markup=False)

    def tell_rest(self) -> None:
        if self._seen > SHOWN_BAD_LINES:
            output.err.print(f"and {self._seen - SHOWN_BAD_LINES:,} more bad lines")


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second one ends the process at once."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def first(number: int, frame: Any) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, first)
    try:
        yield stop
    finally:
        restore()


def _explain(result: FeedResult) -> None:
    """Why it did not come to its end, what was kept, what to do."""
    count, last = result.count, result.last_line
    kept = f"{count.acknowledged:,} of {count.sent:,} sent records were acknowledged"
    if count.acknowledged < count.sent:
        kept += f"; the other {count.sent - count.acknowledged:,} may or may not be in the topic"
    match result.outcome:
        case Outcome.STOPPED:
            output.error(f"stopped at {result.reason}\n{kept}.\nMend the line and feed from there, or --on-error skip.")
        case Outcome.FAILED:
            output.error(
                f"{result.reason}\n{kept}.\nMend that, then feed again: the inbox knows what is there already."
            )
        case Outcome.INTERRUPTED:
            output.note(f"interrupted after line {last:,}: {kept}")
        case Outcome.COMPLETE:
            pass


def _as_json(kind: FeedKind, result: FeedResult) -> dict[str, Any]:
    count = result.count
    return {
        "topic": kind.topic,
        "outcome": result.outcome.value,
        "read": count.read,
        "sent": count.sent,
        "acknowledged": count.acknowledged,
        "skipped": count.skipped,
        "last_line": result.last_line,
        "seconds": round(count.seconds, 3),
        "rate": round(count.rate, 1),
    }


def _print(results: Iterable[tuple[FeedKind, FeedResult]]) -> None:
    shown = output.table("topic", "read ", "sent ", "acknowledged ", "skipped ", "seconds ", "rate/s ")
    for kind, result in results:
        count = result.count
        numbers = (count.read, count.sent, count.acknowledged, count.skipped)
        shown.add_row(kind.topic, *(f"{number:,}" for number in numbers), f"{count.seconds:.2f}", f"{count.rate:,.0f}")
    output.out.print(shown)
