"""The figures in the docs are those of the results, and the results those of the rounds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench import page, picture, results
from bench.aims import aims
from bench.capacity import Capacity
from bench.growth import Point
from bench.job import Verdict
from bench.latency import Latency
from bench.peers.catalogue import CATALOGUE
from bench.plan import CAPACITY_ROUNDS, COMPARED, LATENCY_ROUNDS, PARTS, Plan, planned
from bench.rounds import Round
from streamapp.embedded import jars

ROOT = Path(__file__).parents[2]
RESULTS, GROWTH = ROOT / "bench/results.json", ROOT / "bench/growth.json"
RIGHT = Verdict(2, 0, 0, 0, 0)


def a_round(peer: str, rate: float | None, cpu: float = 10.0, **more: object) -> Round:
    return Round(peer, 1, rate=rate, cpu_s_per_million=cpu, verdict=RIGHT, **more)  # type: ignore[arg-type]


def test_the_page_says_what_the_results_say() -> None:
    text = (ROOT / page.PAGE).read_text()
    found = page.published(RESULTS)
    growth = results.loaded_growth(GROWTH) if GROWTH.exists() else None
    assert page.filled(text, found, growth) == text, "write it anew: .venv/bin/python -m bench page"
    if found is not None:
        assert (ROOT / page.PICTURE).read_text() == picture.svg(found)


def test_the_medians_in_the_results_are_those_of_their_rounds() -> None:
    if (found := page.published(RESULTS)) is not None:
        assert found.complete
        assert msgspec.to_builtins(results.summaries(found.rounds)) == msgspec.to_builtins(found.summaries)
        assert results.latency_summaries(found.latencies) == found.latency_summaries
    if GROWTH.exists():
        grown = results.loaded_growth(GROWTH)
        assert grown.complete and results.point_summaries(grown.points) == grown.summaries


def test_a_wrong_answer_has_no_speed() -> None:
    made = results.summaries(
        [a_round("ours", 30.0), a_round("quix", None, problem="wrong answer", wrong_rate=90.0), a_round("ours", 10.0)]
    )
    ours, quix = made
    assert (ours.rate, ours.lowest, ours.highest, ours.right) == (20.0, 10.0, 30.0, 2)
    assert (quix.rate, quix.wrong_rate, quix.right, quix.ours_to_it) == (None, 90.0, 0, None)


def test_ratios_and_aims_are_those_of_the_medians() -> None:
    found = results.Results("2026-01-01", {}, {}, "c", {}, [a_round("ours", 30.0, 9.0), a_round("streams", 20.0, 10.0)])
    found.summaries = results.summaries(found.rounds)
    assert found.summaries[1].ours_to_it == 1.5
    reached = {one.text: (one.value, one.reached) for one in aims(found)}
    assert reached["an agent: throughput of Kafka Streams, 1 thread"] == (1.5, True)
    assert reached["an agent: CPU a million of Kafka Streams, 1 thread"] == (0.9, True)
    assert reached["an agent: throughput of Quix Streams"] == (None, None)


def test_latencies_are_compared_at_the_same_share_and_at_the_same_load() -> None:
    found = results.Results("2026-01-01", {}, {}, "c", {})
    found.latencies = [
        Latency("ours", 1, 20.0, "ours", p99_ms=240.0),
        Latency("streams", 1, 15.0, "streams", p99_ms=200.0),
        Latency("ours", 1, 15.0, "streams", p99_ms=150.0),
    ]
    found.latency_summaries = results.latency_summaries(found.latencies)
    reached = {one.text: (one.value, one.reached) for one in aims(found)}
    assert reached["p99 end to end at half load, commit intervals"] == (2.4, True)
    assert reached["p99 end to end, each at half of its own capacity, of Kafka Streams"] == (1.2, False)
    assert reached["p99 end to end, both at half of Kafka Streams' capacity, of Kafka Streams"] == (0.75, True)


def test_the_capacity_is_the_median_of_the_rounds_that_have_one() -> None:
    found = results.Results("2026-01-01", {}, {}, "c", {})
    found.capacities = [Capacity("ours", 1, 10.0), Capacity("ours", 2, problem="died"), Capacity("ours", 3, 30.0)]
    assert found.capacity("ours") == 20.0 and found.capacity("streams") is None


def test_growth_is_a_share_of_its_start() -> None:
    points = [Point("ids", value, a_round("ours", rate)) for value, rate in ((0, 10.0), (9, 8.0), (9, 4.0), (0, 20.0))]
    made = results.point_summaries(points)
    assert [(one.value, one.rate, one.of_start) for one in made] == [(0, 15.0, 1.0), (9, 6.0, 0.4)]


def test_the_page_without_one_of_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="bench:programs"):
        page.filled("no marks at all", None, None)


def test_the_peers_packages_are_pinned_by_hash_and_name_no_registry() -> None:
    text = (ROOT / "bench/constraints.txt").read_text()
    assert "://" not in text and "quixstreams==" in text and "orjson==" in text
    pins = [line for line in text.splitlines() if "==" in line and not line.lstrip().startswith("#")]
    assert len(pins) == sum(1 for line in text.splitlines() if "==" in line and line.rstrip().endswith("\\"))


def test_kafka_streams_is_of_the_brokers_version() -> None:
    own = {jar.coordinates.split(":")[1]: jar for jar in jars.parsed((ROOT / "bench/jars.txt").read_text())}
    assert own["kafka-streams"].coordinates.endswith(f":{jars.version()}")


def test_every_program_says_what_it_lacks() -> None:
    assert all(peer.lacks and peer.state for peer in CATALOGUE.values())


def test_programs_take_turns_and_the_slow_ones_fewer() -> None:
    plan = planned(["ours", "streams", "faust", *PARTS], 4)
    assert plan.rounds[:4] == [("ours", 1), ("streams", 1), ("faust", 1), ("ours", 2)]
    assert [name for name, number in plan.rounds if number == 4] == ["ours", "streams"]
    assert plan.capacities[:3] == [("ours", 1), ("streams", 1), ("ours", 2)]
    assert plan.latencies[:4] == [
        ("ours", 1, "ours"),
        ("streams", 1, "streams"),
        ("ours", 1, "streams"),
        ("ours", 2, "ours"),
    ]
    assert plan.restarts == ["ours", "streams"] and plan.needs_java


def test_latency_alone_is_that_of_all_that_are_compared() -> None:
    capacities = [(name, number) for number in range(1, CAPACITY_ROUNDS + 1) for name in COMPARED]
    loads = [*((name, name) for name in COMPARED), ("ours", "streams")]
    latencies = [(name, number, whose) for number in range(1, LATENCY_ROUNDS + 1) for name, whose in loads]
    assert LATENCY_ROUNDS >= 5
    assert planned(["latency"], 1) == Plan([], capacities, latencies, [])
    assert {whose for *_, whose in planned(["ours", "latency"], 1).latencies} == {"ours"}
    assert not planned(["ours", "latency"], 1).needs_java
