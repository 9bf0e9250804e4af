"""`python -m bench`: what is written, what is published, and what Ctrl-C leaves. The rounds themselves are given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from bench import __main__ as command
from bench import capacity, job, latency, page, restart, results, rounds
from bench.capacity import Capacity
from bench.growth import POINTS, Point
from bench.latency import Latency
from bench.restart import Restart
from bench.rounds import Round

ROOT = Path(__file__).parents[2]
RATES = {"ours": 30_000.0, "streams": 20_000.0}


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the page in it, and programs that answer at once."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / page.PAGE).write_text((ROOT / page.PAGE).read_text())
    monkeypatch.chdir(tmp_path)
    place = SimpleNamespace(bootstrap="nowhere", create=lambda *_, **__: None)
    monkeypatch.setattr(command, "_place", lambda: contextlib.nullcontext(place))
    monkeypatch.setattr(command.java, "fetch", lambda *_: [])
    monkeypatch.setattr(job, "load", lambda *_: 0)
    monkeypatch.setattr(rounds, "run", a_round)
    monkeypatch.setattr(
        capacity, "measure", lambda _, peer, number, *__: Capacity(peer.name, number, RATES[peer.name] * number)
    )
    monkeypatch.setattr(
        latency,
        "measure",
        lambda _, peer, number, load, *__: Latency(peer.name, number, load.rate, load.half_of, 9, 1, 2, 3),
    )
    monkeypatch.setattr(restart, "measure", lambda _, peer, *__: Restart(peer.name, 1000, [1.0, 3.0, 2.0]))
    return tmp_path


def a_round(_: Any, peer: Any, number: int, *__: Any) -> Round:
    return Round(peer.name, number, 100, 1.0, RATES.get(peer.name, 1000.0), 10.0, 50.0, job.Verdict(2, 0, 0, 0, 0))


def ran(*arguments: str) -> int:
    return CliRunner().invoke(command.app, list(arguments)).exit_code


def test_a_whole_run_is_published_with_its_page_and_picture(there: Path) -> None:
    assert ran("run") == 0
    found = results.loaded(there / command.RESULTS)
    assert found.complete and len(found.rounds) == 5 * 9 + 3 * 5 + 2 * 3
    # Half of the median capacity, which is that of the second of three rounds.
    loads = {(one.peer, one.half_of, one.rate) for one in found.latency_summaries}
    assert loads == {("ours", "ours", 30_000), ("streams", "streams", 20_000), ("ours", "streams", 20_000)}
    text = (there / page.PAGE).read_text()
    assert "| Kafka Streams, 1 thread | 20,000 |" in text and "**2.0** (1.0, 3.0, 2.0)" in text
    assert "| streamapp, an agent | 60,000 | 30,000-90,000 |" in text
    assert (there / page.PICTURE).read_text().startswith("<svg")


def test_a_part_is_written_and_not_published(there: Path) -> None:
    assert ran("run", "--only", "ours,quix", "--rounds", "2") == 0
    part = results.loaded(there / command.DIRECTORY / "results.json")
    assert [(one.peer, one.number) for one in part.rounds] == [("ours", 1), ("quix", 1), ("ours", 2), ("quix", 2)]
    assert not (there / command.RESULTS).exists()


def test_ctrl_c_leaves_what_was_measured(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(place: Any, peer: Any, number: int, *more: Any) -> Round:
        if number == 2:
            raise KeyboardInterrupt
        return a_round(place, peer, number, *more)

    monkeypatch.setattr(rounds, "run", interrupted)
    assert ran("run", "--only", "ours,streams") == 130
    part = results.loaded(there / command.DIRECTORY / "results.json")
    assert not part.complete and [one.peer for one in part.summaries] == ["ours", "streams"]


def test_a_name_that_is_none_is_refused(there: Path) -> None:
    assert ran("run", "--only", "ours,oops") == 2
    assert ran("growth", "--only", "oops") == 2


def test_latency_without_a_known_capacity_is_not_measured(tmp_path: Path) -> None:
    result = latency.measure(None, SimpleNamespace(name="ours"), 1, latency.Load("ours", 0.0), tmp_path, 4, print)  # type: ignore[arg-type]
    assert result.problem == "the capacity of ours is not known" and result.p99_ms is None


def test_growth_is_published_when_it_is_whole(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Given:
        def __init__(self, _: Any, __: Path, number: int, tell: Any) -> None:
            self._number, self._tell = number, tell

        def run(self, dimension: str, _: Any) -> None:
            for value, number in self._points(dimension):
                self._tell(Point(dimension, value, a_round(None, SimpleNamespace(name="ours"), number)))

        def _points(self, dimension: str) -> Iterator[tuple[int, int]]:
            return ((value, number) for value in POINTS[dimension] for number in range(self._number))

    monkeypatch.setattr(command, "Growth", Given)
    assert ran("growth", "--only", "ids") == 0
    assert not (there / command.GROWTH).exists()
    assert ran("growth") == 0
    assert results.loaded_growth(there / command.GROWTH).complete
    assert "| ids in the inbox | 10,000,000 | 30,000 | 1.00 |" in (there / page.PAGE).read_text()
