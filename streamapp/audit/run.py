"""One audit from end to end: the cut, the reading, the judgement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from streamapp.audit import cut
from streamapp.audit.broker import Broker, CannotTell
from streamapp.audit.judge import Judge
from streamapp.audit.record import Record, Topics
from streamapp.audit.report import Findings, Report
from streamapp.audit.terms import Expect, Rules, Terms

#: Told what is going on: a text, how much is done, how much there is (0: unknown).
Progress = Callable[[str, int, int], None]

_TOLD_EVERY = 10_000
#: Tables whose rows an event may write.
_TABLES = ("balances", "payments", "payment_totals", "ad_spend", "inbox")


def audit(
    config: Mapping[str, Any],
    *,
    group: str = "streamapp",
    topics: Topics | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    expect: Expect = "once",
    rules: Rules | None = None,
    wait_s: float = 10.0,
    timeout_s: float = 10.0,
    stories: int = 20,
    progress: Progress = lambda text, done, total: None,
) -> Report:
    """Judge transfers, payments and clicks in Kafka. Never raises for what Kafka says or does not say: that is UNKNOWN.

    `config` are librdkafka's settings (`bootstrap.servers`, `security.protocol`, `sasl.*`, `ssl.*`). Every topic
    is read from its first record. `since_ms` (inclusive) and `until_ms` (exclusive) choose events by append time: an
    effect is judged if its event is chosen, one without an event by its own append time, and sums and windows always.
    `wait_s` bounds the wait for a service that is still consuming, `timeout_s` each of Kafka's answers.
    """
    started = time.monotonic()
    topics = topics or Topics()
    try:
        broker = Broker(config, timeout_s=timeout_s)
    except CannotTell as exc:
        return Report.unknown(str(exc), expect=expect)
    try:
        extent = cut.take(
            broker, topics, group, wait_s, lambda lag: progress(f"waiting for {lag:,} records to be consumed", 0, 0)
        )
        terms = Terms(
            extent.partitions, topics, group, expect, rules or Rules(), extent.cut,
            compacted_before_ms={name: _compacted_before_ms(broker, name) for name in topics.upserts},
            room=_room(broker, topics, group),
        )  # fmt: skip
        judge = Judge(terms, Findings(since_ms, until_ms, stories))
        read: Counter[str] = Counter()
        judge.read(_all_records(broker, topics, extent, read, progress))
        report = judge.judgement()
        report.records_read = dict(read)
    except CannotTell as exc:
        report = Report.unknown(str(exc), expect=expect)
    finally:
        broker.close()
    report.seconds = time.monotonic() - started
    return report


def _compacted_before_ms(broker: Broker, name: str) -> int:
    """The append time up to which compaction may have removed upserts of a topic; 0 where it never does."""
    if "compact" not in broker.setting(name, "cleanup.policy"):
        return 0
    return int(time.time() * 1000) - int(broker.setting(name, "min.compaction.lag.ms"))


def _room(broker: Broker, topics: Topics, group: str) -> dict[str, int]:
    """`max.message.bytes` of the topics the service writes to, its changelogs where they are."""
    logs = broker.partitions(f"{group}-{table}-changelog" for table in _TABLES)
    return {name: int(broker.setting(name, "max.message.bytes")) for name in (*topics.all, *logs)}


def _all_records(
    broker: Broker, topics: Topics, extent: cut.Extent, read: Counter[str], progress: Progress
) -> Iterator[Record]:
    total, done = sum(extent.records(name) for name in topics.all), 0
    for name in topics.all:
        for record in broker.read(name, extent.spans[name], with_headers=name in topics.with_headers):
            read[name] += 1
            done += 1
            if done % _TOLD_EVERY == 0:
                progress(f"reading {name}", done, total)
            yield record
    progress("judging", total, total)
