"""`streamapp demo`, which is `make run`: real purchases through real Kafka, judged by the auditor."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from streamapp import audit as oracle
from streamapp import settings as configuration
from streamapp.audit.report import Report, Verdict
from streamapp.cli import output
from streamapp.cli.audit import Watch, rules_of, show, show_verdict
from streamapp.cli.embedded import fetching, interruptible
from streamapp.embedded import jars, servers
from streamapp.embedded.servers import Servers
from streamapp.errors import StreamAppError
from streamapp.ops import cdnow, topics
from streamapp.ops.connection import connection_settings
from streamapp.ops.feed import KINDS, FeedCount, feed, numbered
from streamapp.ops.lag import GroupLag
from streamapp.settings import PREFIX, Settings

#: The worker has this long to stop before it is killed, in seconds: its own bound is 20.
_STOP_S = 25.0
#: Without progress for this long the run is given up, in seconds.
_STALLED_S = 90.0
_POLL_S = 0.25
#: Silence that closes a partition's windows, and how long to wait for that, in seconds.
_IDLE_S, _CLOSING_S = 2.0, 30.0
_MERCHANT, _CURRENCY = "merchant:cdnow", "USD"
#: What the worker consumes of it.
_INPUTS = ("transfer", "balances", "payment", "delivery")


def register(app: typer.Typer) -> None:
    """Add `demo`."""
    app.command("demo")(demo)


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the verdict instead of serving until Ctrl-C.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N purchases.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Where servers and worker keep their data.")] = servers.DATA_DIR,
) -> None:
    """Start everything, feed 69,659 real purchases as transfers and payments, and let the auditor judge the outcome.

    Starts Kafka and PostgreSQL on this machine; with STREAMAPP_BROKER set it uses that Kafka and starts neither.
    Data is kept between runs. Exit code 0 only if the verdict is PASS.

    Example: `streamapp demo --once`
    """
    with interruptible(), contextlib.ExitStack() as running:
        settings = _cluster(data_dir, running)
        try:
            report = _judged(settings, data_dir, limit, running)
            if not once:
                again = f"{PREFIX}BROKER={settings.broker} {PREFIX}WINDOW_IDLE={settings.window_idle:g} streamapp audit"
                output.note(f"serving until Ctrl-C; to look again: {again}")
                threading.Event().wait()
        except KeyboardInterrupt:
            output.note("stopping; the data is kept")
            raise typer.Exit(130) from None
    raise typer.Exit(
        {Verdict.PASS: output.DONE, Verdict.FAIL: output.FAILED, Verdict.UNKNOWN: output.MISUSE}[report.verdict]
    )


def _cluster(data_dir: Path, running: contextlib.ExitStack) -> Settings:
    """The settings to run with, and servers started if none are named."""
    # The purchases end some day in 1998, and nothing younger follows: silence closes the last window.
    idle = None if os.environ.get(PREFIX + "WINDOW_IDLE") else _IDLE_S
    if os.environ.get(PREFIX + "BROKER"):
        return configuration.load(datadir=data_dir / "state", window_idle=idle)
    configuration.load()  # whatever is wrong is said before anything starts
    _say(f"starting Kafka {jars.version()} and PostgreSQL")
    began = time.monotonic()
    with fetching() as on_progress:
        started = Servers(data_dir, on_progress=on_progress, note=output.note)
        running.callback(started.stop)
        started.start()
    _say(f"they answer at {started.kafka.bootstrap}, after {time.monotonic() - began:.1f} s")
    return configuration.load(broker=started.kafka.bootstrap, datadir=data_dir / "state", window_idle=idle)


def _judged(settings: Settings, data_dir: Path, limit: int | None, running: contextlib.ExitStack) -> Report:
    created = topics.apply(settings).created
    _say(f"topics: {f'{len(created)} created' if created else 'all there'}")
    log = data_dir / "worker.log"
    worker = running.enter_context(_worker(settings, log))
    _say(f"worker started, process {worker.pid}, log {log}")
    _say(f"its page: {_page(worker, log)}/tables")
    began = time.monotonic()
    _feed(settings, limit)
    _process(settings, worker, log)
    seconds = time.monotonic() - began
    report = _audited(settings)
    _summary(report, seconds, limit or cdnow.LINES)
    if report.verdict is Verdict.PASS and settings.window_idle and report.totals_by_window.open:
        raise StreamAppError(
            f"{report.totals_by_window.open:,} windows are still open, although {settings.window_idle:g} s of silence "
            f"close them. {_last_words(log)}"
        )
    return report


def _audited(settings: Settings) -> Report:
    """The verdict, once the last windows are closed."""
    give_up = time.monotonic() + _CLOSING_S
    time.sleep(settings.window_idle)
    while True:
        began = time.monotonic()  # an audit may take longer than the closing: what counts is when it looked
        with Watch() as watch:
            report = oracle.audit(
                connection_settings(settings),
                group=settings.id,
                rules=rules_of(settings),
                wait_s=60.0,
                progress=watch.tell,
            )
        if not (settings.window_idle and report.totals_by_window.open) or began > give_up:
            return report


@contextlib.contextmanager
def _worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as a process of its own; drained at the end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        f"{PREFIX}BROKER": settings.broker,
        f"{PREFIX}DATADIR": str(settings.datadir),
        f"{PREFIX}INSTANCE": settings.instance or "demo",
        f"{PREFIX}WINDOW_IDLE": str(settings.window_idle),
    }
    with log.open("wb") as stream:
        # A session of its own: Ctrl-C must not reach it before we have drained it.
        process = subprocess.Popen(
            [sys.executable, "-m", "streamapp.cli", "worker"],
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                output.note("the worker did not stop in time and is killed; what was not committed runs again")
                process.kill()
                process.wait()


def _page(worker: subprocess.Popen[bytes], log: Path) -> str:
    """Where the worker's views answer; it says so as soon as it listens."""
    give_up = time.monotonic() + _STALLED_S
    while (said := re.search(r"views at (http://[^\s\"]+)", log.read_text(errors="replace"))) is None:
        if worker.poll() is not None:
            raise StreamAppError(f"The worker ended with code {worker.returncode}. {_last_words(log)}")
        if time.monotonic() > give_up:
            raise StreamAppError(f"The worker did not begin. {_last_words(log)}")
        time.sleep(_POLL_S)
    return said[1]


def _feed(settings: Settings, limit: int | None) -> None:
    path, total = cdnow.fetch(), limit or cdnow.LINES
    for name, records in (("transfers", cdnow.transfers(path)), ("payments", cdnow.payments(path))):
        with output.progress() as progress:
            bar = progress.add_task(f"feeding {name}", total=total, rate="")

            def tell(count: FeedCount, progress: Progress = progress, bar: TaskID = bar) -> None:
                progress.update(bar, completed=count.acknowledged, rate=f"{count.rate:,.0f}/s")

            result = feed(settings, KINDS[name], numbered(itertools.islice(records, total)), on_progress=tell)
        if not result.clean:
            raise StreamAppError(
                f"Feeding {name} stopped: {result.reason} "
                f"{result.count.acknowledged:,} records were acknowledged and are kept."
            )
        _say(f"fed {result.count.acknowledged:,} purchases as {name} in {result.count.seconds:.1f} s")


def _process(settings: Settings, worker: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the group has consumed everything, showing how far it is."""
    with GroupLag(settings, _INPUTS) as lag, output.progress() as progress:
        bar = progress.add_task("processing", total=None, rate="")
        began = moved = time.monotonic()
        first = before = sum(consumed.done for consumed in lag.consumed().values())
        while True:
            topics_now = lag.consumed()
            done, end = sum(c.done for c in topics_now.values()), sum(c.end for c in topics_now.values())
            now = time.monotonic()
            progress.update(bar, completed=done, total=end, rate=f"{(done - first) / (now - began + 1e-9):,.0f}/s")
            if done == end:
                return
            if done != before:
                before, moved = done, now
            if worker.poll() is not None:
                raise StreamAppError(f"The worker ended with code {worker.returncode}. {_last_words(log)}")
            if now - moved > _STALLED_S:
                raise StreamAppError(
                    f"Nothing was processed for {_STALLED_S:.0f} s; {end - done:,} offsets are left. {_last_words(log)}"
                )
            time.sleep(_POLL_S)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-8:]
    return "\n".join([f"The last lines of {log}:", *lines])


def _summary(report: Report, seconds: float, count: int) -> None:
    """The run on one screen, the verdict last; a run that did not pass is shown whole."""
    summary, payments, totals = report.summary, report.payments, report.totals_by_window
    made = output.table("purchases as transfers and payments", "count ")
    for name, value in (
        ("transfers in", summary.records_in),
        ("  posted", summary.posted),
        *((f"  rejected, {reason}", rejected) for reason, rejected in sorted(summary.rejected.items())),
        (f"  balance of {_MERCHANT}, cents", report.balance(_MERCHANT, _CURRENCY)),
        ("  sum of all balances, cents", report.totals.get(_CURRENCY, 0)),
        ("payments in", payments.records_in),
        ("  completed", payments.completed),
        *((f"  declined, {reason}", declined) for reason, declined in sorted(payments.declined.items())),
        ("  deliveries started", payments.started),
        ("  windows of payment-totals, each final once", totals.final),
        ("  sum of the final windows, cents", totals.amount),
        ("dead letters", summary.dead_letters + payments.dead_letters),
        ("duplicates", summary.duplicates + payments.duplicates),
    ):
        made.add_row(name, f"{value:,}")
    made.add_row("seconds from the first purchase to the last delivery", f"{seconds:,.1f}")
    made.add_row("transfers and payments a second", f"{2 * count / seconds:,.0f}")
    output.out.print(made)
    if repeats := summary.duplicates + payments.duplicates:
        output.out.print(
            f"{repeats:,} transfers and payments came a second time under the same id: the inbox knew them, and they "
            "changed nothing"
        )
    output.out.print()
    if report.verdict is Verdict.PASS:
        show_verdict(report)
    else:
        show(report)


def _say(text: str) -> None:
    output.err.print(text, markup=False)
