"""What the slow programs (`make size`, `make stock`) make of what they saw: no figure passes by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from comparison import __main__ as comparison
from comparison.rows import Seen, outcome
from proofs.__main__ import keep
from proofs.finding import Finding
from proofs.ground import Use
from proofs.memory import FLAT, Sample, slope


def samples(bytes_an_event: float) -> list[Sample]:
    noise = (0, 900_000, -700_000, 300_000)  # a collection of garbage, a memtable
    return [
        Sample(events, Use(int(200e6 + cache + bytes_an_event * events + noise[number % 4]), 20, 50), cache)
        for number, events in enumerate(range(600_000, 2_000_000, 20_000))
        for cache in (number * 1_000_000,)  # fills all the while
    ]


@pytest.mark.parametrize(("leaked", "is_flat"), [(0, True), (3, True), (50, False), (-5, True)])
def test_a_leak_of_one_object_an_event_is_no_flat_line(leaked: float, is_flat: bool) -> None:
    assert slope(samples(leaked)) == pytest.approx(leaked, abs=1.5)
    assert (slope(samples(leaked)) <= FLAT) == is_flat


def test_too_few_samples_say_nothing() -> None:
    with pytest.raises(ValueError, match="9 samples"):
        slope(samples(0)[:9])


@pytest.mark.parametrize(
    ("seen", "bound", "more_is_better", "passed"),
    [(5.0, 5.0, False, True), (5.1, 5.0, False, False), (99_000, 100_000, True, False), (100_000, 100_000, True, True)],
)
def test_a_figure_passes_on_its_side_of_the_bound(
    seen: float, bound: float, more_is_better: bool, passed: bool
) -> None:
    finding = Finding("it", seen, "s", bound, more_is_better)
    assert finding.passed == passed
    assert ("PASS" if passed else "FAIL") in finding.row


def test_a_section_of_the_report_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    keep(file, "storm", [Finding("workers", 1, "", 2)])
    keep(file, "restart", [Finding("commit", 4, "s", 5)])
    keep(file, "storm", [Finding("workers", 2, "", 2)])
    text = file.read_text()
    assert text.index("## restart") < text.index("## storm")
    assert "| workers | 2" in text and "| workers | 1" not in text
    assert text.count("## ") == 2


@pytest.mark.parametrize(
    ("found", "held", "text"),
    [
        (["a", "b"], True, "0 of 2 outputs lost, 0 doubled"),
        (["a"], False, "1 of 2 outputs lost, 0 doubled"),
        (["a", "b", "b"], False, "0 of 2 outputs lost, 1 doubled"),
        (["a", "c"], False, "1 of 2 outputs lost, 1 doubled"),
    ],
)
def test_an_outcome_is_a_matter_of_each_output(found: list[str], held: bool, text: str) -> None:
    assert outcome(found, ["a", "b"]) == (held, text)


def test_rows_of_an_earlier_run_stay_in_the_comparison(tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    comparison.keep(file, {"1": {"stock": Seen(False, "5 doubled"), "ours": Seen(True, "0 doubled")}})
    comparison.keep(file, {"21": {"stock": Seen(False, "no start"), "ours": Seen(True, "it works")}})
    text = file.read_text()
    assert "Of 2 promises stock Faust held 0, ours 2" in text
    assert "**broken**: 5 doubled | held: 0 doubled" in text
