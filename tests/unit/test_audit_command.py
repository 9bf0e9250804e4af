"""`streamapp audit` around the judge: its options, the client's settings, and how a report looks."""

from __future__ import annotations

import pytest

from streamapp.audit.report import Findings, Report, Summary, Verdict
from streamapp.cli import audit as command
from streamapp.cli.main import run
from streamapp.settings import Settings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "not an RFC 3339 time"),
        (["--until", "2026-01-01T00:00:00"], "say the time zone"),
        (["--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00Z"], "--since must be before --until"),
        (["--expect", "twice"], "`once` or `each`"),
    ],
)
def test_misuse_is_explained(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert not captured.out


def test_report_shows_records_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Ids are the sender's: no markup, no emoji, no control sequence of theirs acts on the terminal."""
    findings = Findings(stories_kept=1)
    findings.violate("transfers", "lost", None, "[bold]it[/] is gone", "transfer[0]@1  :dog:\x1b[31m\n")
    findings.violate("transfers", "lost", None, "another")
    command.show(Report(Verdict.FAIL, ["lost: 2"], findings, Summary(), "once", records_read={"transfer": 2}))
    shown = capsys.readouterr().out
    assert "  [bold]it[/] is gone\n      transfer[0]@1  :dog:\\x1b[31m\\n\n  ... and 1 more\n" in shown
    assert shown.splitlines()[-1].startswith("FAIL  2 violations: lost: 2")


def test_unknown_says_why_last(capsys: pytest.CaptureFixture[str]) -> None:
    command.show(Report.unknown("there is no topic transfer."))
    assert capsys.readouterr().out == "UNKNOWN  no verdict can be given:\n  there is no topic transfer.\n"


def test_the_verdict_names_the_kinds_of_events_there_were(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(Verdict.PASS, [], Findings(), Summary(records_in=3), "once", records_read={"transfer": 9})
    report.findings.examined.update(transfers=3, payments=2, clicks=1)
    for more, said in (
        (report.summary, "PASS  3 transfers judged, each exactly once (9 records"),
        (report.clicks, "PASS  3 transfers and 1 clicks judged"),
        (report.payments, "PASS  3 transfers, 2 payments and 1 clicks judged"),
    ):
        more.records_in = 3
        command.show_verdict(report)
        assert capsys.readouterr().out.startswith(said)


def test_what_did_not_come_in_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(Verdict.PASS, [], Findings(), Summary(), "once", records_read={"payment": 2})
    report.payments.records_in = report.payments.completed = 2
    report.totals_by_window.windows, report.totals_by_window.final = 2, 1
    report.payments.declined["over_limit"] = 1
    command.show(report)
    shown = capsys.readouterr().out
    assert "transfers in" not in shown and "clicks in" not in shown
    for line in ("payments in", "declined over_limit", "deliveries started", "windows in payment-totals", "final"):
        assert line in shown


def test_the_rules_are_those_of_the_settings() -> None:
    rules = command.rules_of(Settings(payment_limit=7, window_size=0.5, window_grace=0.25, window_idle=2))
    assert (rules.payment_limit, rules.window_us, rules.grace_us, rules.closes_idle) == (7, 500_000, 250_000, True)
    assert command.rules_of(Settings()).closes_idle is False
