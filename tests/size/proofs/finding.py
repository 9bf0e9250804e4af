"""One figure beside what was promised."""

from __future__ import annotations

from typing import Any, NamedTuple


class Finding(NamedTuple):
    """A figure that was seen. It passes when it is at most `bound`, or at least, where more is better."""

    what: str
    seen: float
    unit: str
    bound: float
    more_is_better: bool = False
    #: What else belongs to it: other rounds, sizes.
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.seen >= self.bound if self.more_is_better else self.seen <= self.bound

    @property
    def row(self) -> str:
        """A row of the report's table."""
        sign = "≥" if self.more_is_better else "≤"
        verdict = "PASS" if self.passed else "FAIL"
        return (
            f"| {self.what} | {_shown(self.seen)} {self.unit} | {sign} {_shown(self.bound)} | {verdict} | {self.note} |"
        )


def judged(report: Any) -> Finding:
    """The auditor's verdict: anything but PASS is one too many."""
    why = "; ".join(report.reasons) or f"{sum(report.records_read.values()):,} records read"
    note = f"it says {report.verdict}: {why}"
    return Finding("verdicts of the auditor other than PASS", report.verdict != "PASS", "", 0, note=note)


def _shown(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.2f}"
