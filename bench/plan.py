"""What a run of `make bench` does, in which order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.peers.catalogue import CATALOGUE

#: Those whose latency and restarts are measured; the latency of the first also at the load of each other one.
COMPARED = ("ours", "streams")
CAPACITY_ROUNDS, LATENCY_ROUNDS = 3, 5
#: Names beside those of the programs.
PARTS = ("latency", "restart")


class Plan(NamedTuple):
    """Programs with the numbers of their rounds, in the order they are run in."""

    rounds: list[tuple[str, int]]
    capacities: list[tuple[str, int]]
    #: Program, number of the round, and whose capacity is halved.
    latencies: list[tuple[str, int, str]]
    restarts: list[str]

    @property
    def steps(self) -> list[str]:
        """The kind of each step, in order."""
        capacities = [f"capacity of {name}" for name, _ in self.capacities]
        lags = [f"latency of {name}" for name, *_ in self.latencies]
        restarts = [f"restart of {name}" for name in self.restarts]
        return [*(name for name, _ in self.rounds), *capacities, *lags, *restarts]

    @property
    def needs_java(self) -> bool:
        """Whether the Java program is among them."""
        return any("streams" in step for step in self.steps)


def planned(parts: Sequence[str], rounds: int) -> Plan:
    """Rounds in turn (A B C A B C), then capacity and latency in turn, then restarts.

    `parts` names programs and `PARTS`.
    """
    programs = [name for name in CATALOGUE if name in parts]
    # Named alone, latency and restarts are those of all that are compared.
    compared = [name for name in COMPARED if name in programs or not programs]
    measured = compared if "latency" in parts else []
    loads = [(name, name) for name in measured] + [(name, other) for name in measured[:1] for other in measured[1:]]
    return Plan(
        [(n, k) for k in range(1, rounds + 1) for n in programs if k <= (CATALOGUE[n].rounds_max or rounds)],
        [(name, number) for number in range(1, CAPACITY_ROUNDS + 1) for name in measured],
        [(name, number, whose) for number in range(1, LATENCY_ROUNDS + 1) for name, whose in loads],
        [name for name in compared if "restart" in parts],
    )
