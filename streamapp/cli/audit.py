"""`streamapp audit`: the oracle's verdict on what is in Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import typer
from rich.markup import escape
from rich.progress import TaskID

from streamapp import audit as oracle
from streamapp import settings as configuration
from streamapp.audit.report import CHECKS, VIOLATIONS, Report, Tally, Verdict, WindowSummary
from streamapp.cli import output
from streamapp.errors import ConfigurationError
from streamapp.ops.connection import connection_settings
from streamapp.settings import Settings

_EXIT = {Verdict.PASS: output.DONE, Verdict.FAIL: output.FAILED, Verdict.UNKNOWN: output.MISUSE}
_LOOK = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.UNKNOWN: "bold yellow"}
#: Without a terminal, a line this often tells that it is alive.
_NOTE_EVERY_S = 2.0

_HELP = """
The independent oracle: PASS, FAIL or UNKNOWN, and why.

Reads every topic of the contract from its first record with another Kafka client than the service, recomputes from
the contract what transfers, payments and clicks must have led to, and names each violation with the records involved.
It changes nothing, joins no consumer group, and may run beside the workers. The limit of payments and the windows'
size, grace and silence are taken from the settings, which must be the workers'.

With `--since` and `--until` an event is judged if it was appended to its topic in that time, and an effect if its event
was; an effect without an event by its own append time. Balances are always folded from the beginning; the sums over all
accounts and the windows always count.

Exit code 0: PASS; 1: FAIL; 2: UNKNOWN (nothing examined, no broker, the workers not finished, an open transaction).

Example: `streamapp audit --since 2026-01-01T00:00:00Z --wait 30`
"""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(name="audit", help=_HELP)
    def command(
        since: Annotated[str, typer.Option(metavar="TIME", help="Judge events appended at or after; RFC 3339.")] = "",
        until: Annotated[str, typer.Option(metavar="TIME", help="Judge events appended before; RFC 3339.")] = "",
        expect: Annotated[
            str,
            typer.Option(
                metavar="once|each",
                help="What a repeated event id means: once: no second effect (the inbox); each: an event of its own.",
            ),
        ] = "once",
        wait: Annotated[
            float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for the workers to finish.")
        ] = 10,
        stories: Annotated[int, typer.Option(min=1, help="Show so many violations of a name.")] = 20,
        topic_prefix: Annotated[str, typer.Option(help="Prefix of the topics' names.", hidden=True)] = "",
        as_json: output.JsonOption = False,
    ) -> None:
        if expect not in ("once", "each"):
            raise ConfigurationError(f"--expect {expect}: it is `once` or `each`.")
        since_ms, until_ms = _milliseconds("--since", since), _milliseconds("--until", until)
        if since_ms is not None and until_ms is not None and since_ms >= until_ms:
            raise ConfigurationError("--since must be before --until.")
        settings = configuration.load()
        with Watch() as watch:
            report = oracle.audit(
                connection_settings(settings),
                group=settings.id,
                topics=oracle.Topics.prefixed(topic_prefix),
                since_ms=since_ms,
                until_ms=until_ms,
                expect="each" if expect == "each" else "once",
                rules=rules_of(settings),
                wait_s=wait,
                stories=stories,
                progress=watch.tell,
            )
        if as_json:
            output.emit_json(report.as_json())
        else:
            show(report)
        raise typer.Exit(_EXIT[report.verdict])


def rules_of(settings: Settings) -> oracle.Rules:
    """What the settings decide of the outcomes."""
    return oracle.Rules(
        payment_limit=settings.payment_limit,
        window_us=round(settings.window_size * 1_000_000),
        grace_us=round(settings.window_grace * 1_000_000),
        closes_idle=settings.window_idle > 0,
        inbox_retention_ms=round(settings.inbox_retention * 1000),
    )


def _milliseconds(option: str, text: str) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{option} {text}: not an RFC 3339 time such as 2026-01-31T12:00:00Z.") from None
    if moment.tzinfo is None:
        raise ConfigurationError(f"{option} {text}: say the time zone, Z for UTC: {text}Z.")
    return int(moment.timestamp() * 1000)


class Watch:
    """Shows on standard error what the auditor is doing: a bar on a terminal, now and then a line in a pipe."""

    def __init__(self) -> None:
        self._progress = output.progress(transient=True)
        self._task: TaskID | None = None
        self._begun = self._told = time.monotonic()

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, text: str, done: int, total: int) -> None:
        """The auditor's progress; `total` 0: there is no knowing how long."""
        now = time.monotonic()
        rate = f"{done / max(now - self._begun, 0.001):,.0f}/s" if done else ""
        if self._task is None:
            self._task = self._progress.add_task(text, total=total or None, rate=rate)
        self._progress.update(self._task, description=text, completed=done, total=total or None, rate=rate)
        if not output.err.is_terminal and now - self._told >= _NOTE_EVERY_S:
            self._told = now
            output.note(f"{text}: {done:,} of {total:,} records" if total else text)


def show(report: Report) -> None:
    """The report for people, the verdict last: it is what stays on the screen."""
    if report.records_read:
        for made in (_summary(report), _checks(report)):
            output.out.print(made)
            output.out.print()
    for name, count in report.findings.named.most_common():
        _violations(report, name, count)
    for note in report.notes:
        _line(note)
    show_verdict(report)


def show_verdict(report: Report) -> None:
    """PASS, FAIL or UNKNOWN in one line, and why nothing could be judged."""
    output.out.print(str(report.verdict), style=_LOOK[report.verdict], end="  ")
    _line(_sentence(report))
    for reason in report.reasons if report.verdict is Verdict.UNKNOWN else ():
        _line(f"  {reason}")


def _line(text: str, style: str | None = None) -> None:
    """Text that may hold anything a record held: no markup, and nothing that would steer the terminal."""
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    output.out.print(text, style=style, markup=False, emoji=False)


def _summary(report: Report) -> Any:
    """What came in and what became of it; of what did not come in, nothing."""
    made = output.table("events", "count ")
    for rows in (_transfers(report), _payments(report), _clicks(report)):
        for name, count in rows:
            made.add_row(escape(name), f"{count:,}")
    return made


_Rows: TypeAlias = Iterator[tuple[str, int]]


def _transfers(report: Report) -> _Rows:
    summary = report.summary
    if not summary.records_in:
        return
    yield "transfers in", summary.records_in
    yield "  posted", summary.posted
    for reason, count in sorted(summary.rejected.items()):
        yield f"  rejected {reason}", count
    yield from _tally(summary)
    yield "  accounts", len(report.accounts)
    for currency, total in sorted(report.totals.items()):
        yield f"  sum of all balances, {currency}", total


def _payments(report: Report) -> _Rows:
    summary = report.payments
    if not summary.records_in:
        return
    yield "payments in", summary.records_in
    yield "  completed", summary.completed
    for reason, count in sorted(summary.declined.items()):
        yield f"  declined {reason}", count
    yield from _tally(summary)
    yield "  deliveries started", summary.started
    yield from _windows("payment-totals", report.totals_by_window)


def _clicks(report: Report) -> _Rows:
    summary = report.clicks
    if not summary.records_in:
        return
    yield "clicks in", summary.records_in
    yield "  charged and paid", summary.clicks
    yield "  charged and paid, minor units", summary.amount
    yield from _tally(summary)
    yield from _windows("ad-spend", report.spend_by_window)


def _tally(tally: Tally) -> _Rows:
    for name, count in (
        ("duplicates in the input", tally.duplicates),
        ("conflicts in the input", tally.conflicts),
        ("dead letters", tally.dead_letters),
        ("in flight", tally.in_flight),
    ):
        if count:
            yield f"  {name}", count


def _windows(log: str, windows: WindowSummary) -> _Rows:
    yield f"  windows in {log}", windows.windows
    yield "  of them final", windows.final
    yield "  sum of the finals, minor units", windows.amount
    if windows.late:
        yield "  late records", windows.late


def _checks(report: Report) -> Any:
    made, found = output.table("check", "examined ", "violations ", "asks"), report.findings
    for name, asks in CHECKS.items():
        wrong = found.violated[name]
        made.add_row(
            name,
            f"{found.examined[name]:,}" if found.examined[name] else "-",
            f"[bold red]{wrong:,}[/]" if wrong else "0",
            f"[dim]{asks}[/]",
        )
    return made


def _violations(report: Report, name: str, count: int) -> None:
    output.out.print(f"[bold red]{name}[/] x {count:,}  [dim]{VIOLATIONS[name]}[/]")
    kept = report.findings.stories[name]
    for story in kept:
        first, *records = story.lines
        _line(f"  {first}")
        for record in records:
            _line(f"      {record}", style="dim")
    if count > len(kept):
        _line(f"  ... and {count - len(kept):,} more")
    output.out.print()


def _sentence(report: Report) -> str:
    found = report.findings
    moment = datetime.now(UTC).strftime("%H:%M:%SZ")
    spent = f"{sum(report.records_read.values()):,} records read in {report.seconds:.1f} s, {moment}"
    if report.verdict is Verdict.UNKNOWN:
        return "no verdict can be given:"
    if report.verdict is Verdict.FAIL:
        total = found.named.total()
        return f"{total:,} violation{'s' if total > 1 else ''}: {', '.join(report.reasons)} ({spent})"
    judged = [f"{found.examined[name]:,} {name}" for name, _ in _judged(report)]
    return f"{_listed(judged) or 'dead letters'} judged, each exactly once ({spent})"


def _judged(report: Report) -> list[tuple[str, int]]:
    """The kinds of events there were."""
    kinds = (("transfers", report.summary), ("payments", report.payments), ("clicks", report.clicks))
    return [(name, tally.records_in) for name, tally in kinds if tally.records_in]


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
