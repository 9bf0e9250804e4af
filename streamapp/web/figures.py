"""The worker's figures as Prometheus families. What is counted was counted by batch; here it is only put together."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from streamapp.metrics import Family, Sample
from streamapp.queries.views import Views, views_of
from streamapp.types import Partition
from streamapp.web.health import unready

#: The engine's counters, in the order of the page; one it counts and nobody named here comes behind them.
COUNTERS: Mapping[str, str] = {
    "commits": "Commits made",
    "events": "Events whose effects are committed",
    "duplicates": "Events an inbox knew already",
    "dead_letters": "Events that became dead letters",
    "aborts": "Transactions aborted, whose events ran again",
    "after_commit_runs": "Handlers that ran after a commit",
    "after_commit_failures": "Runs of such handlers that failed and are repeated",
}
#: Those that are nobody's wish, for the page of errors.
_NO_ERRORS = ("commits", "events", "after_commit_runs")

_STARTED_AT = time.time()


def errors(app: Any) -> dict[str, int]:
    """What went wrong since the worker began, by name; 0 for what never did."""
    counts = app.engine.counts if app.engine is not None else {}
    named = {**dict.fromkeys(COUNTERS, 0), **counts}
    return {name: count for name, count in named.items() if name not in _NO_ERRORS}


def families(app: Any) -> Iterator[Family]:
    """Every family of the worker; those of its partitions once it is connected."""
    settings = app.settings
    about = {"id": settings.id, "instance": settings.instance or "", "version": metadata.version("streamapp")}
    yield _gauge("streamapp_info", "What runs here", Sample(1, about))
    yield _gauge("streamapp_ready", "1 where partitions are owned and restored", Sample(int(unready(app) is None)))
    yield from _process()
    views = views_of(app)
    if views is not None:
        yield from _counters(views.engine.counts)
        yield Family(
            "streamapp_dead_letters_by_kind_total",
            "counter",
            "Events that became dead letters, by topic and by what was wrong",
            [
                Sample(count, {"topic": topic, "kind": kind})
                for (topic, kind), count in sorted(views.engine.letters.counts.items())
            ],
        )
        yield from _commits(views)
        yield from _partitions(views)


def _counters(counts: Mapping[str, int]) -> Iterator[Family]:
    for name in (*COUNTERS, *sorted(counts.keys() - COUNTERS.keys())):
        text = COUNTERS.get(name, name.replace("_", " ").capitalize())
        yield Family(f"streamapp_{name}_total", "counter", text, [Sample(counts.get(name, 0))])


def _commits(views: Views) -> Iterator[Family]:
    commits, restoring = views.engine.commits, views.restoring
    yield Family("streamapp_commit_duration_seconds", "histogram", "From barrier to stores", commits.latency.samples())
    yield _gauge("streamapp_commit_overdue_seconds", "How long a commit has been due for", Sample(commits.overdue_s))
    yield _gauge(
        "streamapp_caught_up_timestamp_seconds",
        "When the tables last caught up with Kafka",
        Sample(commits.caught_up_at),
    )
    yield Family(
        "streamapp_restored_records_total", "counter", "Changelog records restored", [Sample(restoring.restored)]
    )
    yield _gauge(
        "streamapp_restore_remaining_records", "Changelog records still to be restored", Sample(restoring.remaining)
    )


def _partitions(views: Views) -> Iterator[Family]:
    yield _gauge("streamapp_owned_partitions", "Input partitions owned", Sample(len(views.engine.owners)))
    yield _gauge(
        "streamapp_lag_records",
        "Records behind the committed offset, as the last fetch saw the end",
        *(Sample(lag, _labels(partition)) for partition, lag in views.lags()),
    )
    yield _gauge(
        "streamapp_buffered_records",
        "Records fetched and not started",
        *(Sample(count, _labels(partition)) for partition, count in views.buffered()),
    )
    yield _gauge(
        "streamapp_table_rows",
        "Committed rows, about",
        *(Sample(count, {"table": table, "partition": str(number)}) for table, number, count in views.rows()),
    )


def _process() -> Iterator[Family]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = usage.ru_utime + usage.ru_stime
    yield Family("process_cpu_seconds_total", "counter", "User and system CPU time", [Sample(seconds)])
    yield _gauge("process_start_time_seconds", "When the process began", Sample(_STARTED_AT))
    pages = Path("/proc/self/statm")
    if pages.exists():
        resident = int(pages.read_text().split()[1]) * resource.getpagesize()
        yield _gauge("process_resident_memory_bytes", "Resident memory", Sample(resident))


def _gauge(name: str, text: str, *samples: Sample) -> Family:
    return Family(name, "gauge", text, list(samples))


def _labels(partition: Partition) -> dict[str, str]:
    return {"topic": partition.topic, "partition": str(partition.number)}
