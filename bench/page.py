"""Tables and picture of `docs/bench.md`, made from the results: nobody writes a figure there by hand."""

from __future__ import annotations

import statistics
from pathlib import Path

from bench import picture
from bench.aims import Aim, aims, growth_aims
from bench.peers.catalogue import CATALOGUE
from bench.results import GrowthResults, Results, loaded, loaded_growth
from bench.screen import first_line, number
from streamapp.embedded import disk

PAGE, PICTURE = Path("docs/bench.md"), Path("docs/bench.svg")
_NOT_YET = "Not measured yet."
_DIMENSIONS = {
    "partitions": "partitions",
    "keys": "accounts",
    "ids": "ids in the inbox",
    "bytes": "bytes a record",
    "workers": "workers",
}


def published(path: Path) -> Results | None:
    """The results there, if there are any."""
    return loaded(path) if path.exists() else None


def rewrite(results_path: Path, growth_path: Path) -> None:
    """Write what the page has between its marks, and the picture, anew."""
    results = published(results_path)
    growth = loaded_growth(growth_path) if growth_path.exists() else None
    disk.write_whole(PAGE, filled(PAGE.read_text(), results, growth).encode())
    if results is not None:
        disk.write_whole(PICTURE, picture.svg(results).encode())


def filled(text: str, results: Results | None, growth: GrowthResults | None) -> str:
    """The page with every part between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` as the results say."""
    parts = {
        "programs": _programs(),
        "run": _run(results),
        "aims": _aims([*(aims(results) if results else []), *(growth_aims(growth) if growth else [])]),
        "throughput": _throughput(results),
        "latency": _latency(results),
        "restart": _restart(results),
        "growth": _growth(growth),
    }
    for name, part in parts.items():
        begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{PAGE} has no part {begin} ... {end}")
        text = f"{before}{begin}\n{part}\n{end}{after}"
    return text


def _table(head: str, rows: list[str]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|" + " --- |" * columns, *rows])


def _programs() -> str:
    rows = [
        f"| `{peer.name}` | {peer.title} | {peer.state} | {'yes' if peer.exactly_once else 'no'} | {peer.lacks} |"
        for peer in CATALOGUE.values()
    ]
    return _table("| name | program | state | exactly once | what it does not do, or not guarantee |", rows)


def _run(results: Results | None) -> str:
    if results is None:
        return _NOT_YET
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        f"Run of {results.began[:10]}, commit `{results.commit}`: {machine['cores']} cores ({machine['processor']}), "
        f"{machine['memory_gib']} GiB, {machine['system']}.\n\n{versions}."
    )


def _aims(lines: list[Aim]) -> str:
    if not lines:
        return _NOT_YET
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [
        f"| {one.text} | {'at least' if one.at_least else 'at most'} {one.bound:g} {one.unit}".rstrip()
        + f" | {number(one.value, 2)} {one.unit}".rstrip()
        + f" | {words[one.reached]} |"
        for one in lines
    ]
    return _table("| measure | wanted | this run | reached |", rows)


def _throughput(results: Results | None) -> str:
    if results is None or not results.summaries:
        return _NOT_YET
    rows = []
    for one in results.summaries:
        rate = f"{one.rate:,.0f}" if one.rate else f"wrong answers, given at {number(one.wrong_rate)}"
        spread = f"{number(one.lowest)}-{number(one.highest)}" if one.rate else "-"
        ratio = f"{one.ours_to_it:.2f} x" if one.ours_to_it else "-"
        rows.append(
            f"| {CATALOGUE[one.peer].title} | {rate} | {spread} | {number(one.cpu_s_per_million, 1)} "
            f"| {number(one.peak_mib)} | {ratio} | {one.right} of {one.rounds} |"
        )
    head = "| program | transfers/s | lowest-highest | CPU s a million | peak MiB | our agent is | rounds right |"
    return _table(head, rows)


def _latency(results: Results | None) -> str:
    if results is None or not results.latency_summaries:
        return _NOT_YET
    rows = [
        f"| {CATALOGUE[one.peer].title} | {one.rate:,.0f} | {CATALOGUE[one.half_of or one.peer].title} "
        f"| {number(one.p50_ms)} | {number(one.p99_ms)} | {number(one.p999_ms)} | {one.rounds} |"
        for one in results.latency_summaries
    ]
    table = _table(
        "| program | at transfers/s | half of the capacity of | p50, ms | p99, ms | p99.9, ms | rounds |", rows
    )
    return "\n\n".join([*_capacity(results), table])


def _capacity(results: Results) -> list[str]:
    rates: dict[str, list[float]] = {}
    for one in results.capacities:
        if one.rate is not None:
            rates.setdefault(one.peer, []).append(one.rate)
    rows = [
        f"| {CATALOGUE[peer].title} | {number(statistics.median(found))} | {number(min(found))}-{number(max(found))} |"
        for peer, found in rates.items()
    ]
    return [_table("| program | capacity, transfers/s | lowest-highest |", rows)] if rows else []


def _restart(results: Results | None) -> str:
    if results is None or not results.restarts:
        return _NOT_YET
    rows = []
    for one in results.restarts:
        killed = ", ".join(f"{seconds:.1f}" for seconds in one.killed_s)
        median = f"**{statistics.median(one.killed_s):.1f}** ({killed})" if one.killed_s else first_line(one.problem)
        rows.append(
            f"| {CATALOGUE[one.peer].title} | {one.transfers:,} | {median} | {number(one.stopped_s, 1)} "
            f"| {number(one.emptied_s, 1)} | {number(one.restored_per_s)} |"
        )
    head = (
        "| program | transfers before | kill -9 to the first new commit, s | start after a stop, s "
        "| start without its state, s | restored records/s |"
    )
    return _table(head, rows)


def _growth(growth: GrowthResults | None) -> str:
    if growth is None or not growth.summaries:
        return _NOT_YET
    rows = [
        f"| {_DIMENSIONS[one.dimension]} | {one.value:,} | {number(one.rate)} | {number(one.of_start, 2)} "
        f"| {number(one.peak_mib)} | {number(one.restored_per_s)} | {one.right} of {one.rounds} |"
        for one in growth.summaries
    ]
    head = "| what grows | to | transfers/s | of its start | peak MiB | restored marks/s | rounds right |"
    return f"Run of {growth.began[:10]}, commit `{growth.commit}`.\n\n" + _table(head, rows)
