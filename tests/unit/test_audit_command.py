"""`streamapp audit` around the judge: its options, the client's settings, and how a report looks."""

from __future__ import annotations

import pytest

from streamapp.audit.report import Findings, Report, Summary, Verdict
from streamapp.cli import audit as command
from streamapp.cli.main import run


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
