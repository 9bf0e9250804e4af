"""Metrics in Prometheus' text format (version 0.0.4): families of samples, and a histogram. Pure.

Counted by batch, where a commit or a restore goes by; the numbers are put into families when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Upper bounds of a commit's duration, in seconds.
LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Kind = Literal["counter", "gauge", "histogram"]


class Sample(NamedTuple):
    """One number. `suffix` is put behind the family's name (`_bucket`, `_sum`, `_count`)."""

    value: float
    labels: Mapping[str, str] = {}
    suffix: str = ""


class Family(NamedTuple):
    """Samples under one name. A counter's name ends in `_total`, and a name with a unit in that unit."""

    name: str
    kind: Kind
    help: str
    samples: list[Sample]


class Histogram:
    """Counts of observations by upper bound, and their sum."""

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BUCKETS_S) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> list[Sample]:
        """Cumulative, as Prometheus has them."""
        found, total = [], 0
        for bound, count in zip((*map(_number, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            found.append(Sample(total, {"le": bound}, "_bucket"))
        return [*found, Sample(self._sum, {}, "_sum"), Sample(total, {}, "_count")]


def exposition(families: Iterable[Family]) -> str:
    """The families as a page that Prometheus reads."""
    lines = []
    for name, kind, text, samples in families:
        lines.append(f"# HELP {name} {_escaped(text)}")
        lines.append(f"# TYPE {name} {kind}")
        lines += [f"{name}{it.suffix}{_labels(it.labels)} {_number(it.value)}" for it in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
