"""One run on the broker in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fuzzing.judge import AGENTS, SUMS, Outcome, Place, in_windows, rows_of, seen_of
from fuzzing.makers import FUZZED
from fuzzing.records import Fuzzed, Generator
from streamapp.testing import Bench
from streamapp.types import Partition

PARTITIONS = 4
#: Records that are sent before the worker runs on.
_AT_ONCE = 200


def run(seed: int, count: int, *, crash_every: int = 0) -> Outcome:
    """Feed `count` records of a seed to a real worker in memory; raises what ends the worker.

    `crash_every`: kill the worker, as by SIGKILL, behind so many records.
    """
    fed: list[tuple[Place, Fuzzed]] = []
    with Bench("fuzzed_app", seed=seed, partitions=PARTITIONS) as bench:
        bench.advance(0.1)
        generator = Generator(seed, PARTITIONS, bench._run(_now_ms(bench)), FUZZED)
        for begin in range(0, count, _AT_ONCE):
            bench._run(_send(bench, generator.records(min(_AT_ONCE, count - begin)), fed))
            bench.advance(0.15)
            if crash_every and begin // crash_every != (begin + _AT_ONCE) // crash_every:
                bench.crash()
        bench.settle()
        return _outcome(bench, fed)


async def _now_ms(bench: Bench) -> int:
    return bench.broker.append_ms()


async def _send(bench: Bench, records: Iterable[Fuzzed], fed: list[tuple[Place, Fuzzed]]) -> None:
    for record in records:
        at = Partition(record.topic, record.partition)
        produced = bench.broker.send(at, record.key, record.value, record.timestamp_ms, record.headers)
        assert not produced.error, f"the broker refused {record}: {produced}"
        fed.append(((record.topic, record.partition, produced.base_offset), record))


def _in_order(bench: Bench, topic: str) -> Iterator[tuple[int, bytes | None, bytes | None]]:
    """Every committed record, in the order of its partition."""
    for number in range(bench.broker.topics[topic].partition_count):
        log = bench.broker.logs[Partition(topic, number)]
        for record in log.fetch(log.start_offset, committed_only=True).records:
            yield number, record.key, record.value


def _outcome(bench: Bench, fed: list[tuple[Place, Fuzzed]]) -> Outcome:
    letters = [
        ((letter.topic, letter.partition, letter.offset), f"{letter.kind}: {letter.reason[:200]}")
        for topic in AGENTS
        for letter in bench.dead_letters(topic)
    ]
    return Outcome(
        fed,
        [seen_of(value or b"") for _, _, value in _in_order(bench, "seen")],
        letters,
        {name: rows_of(_in_order(bench, f"fuzzed-{name}-changelog")) for name in SUMS.values()},
        in_windows((record.key, record.value) for record in bench.records("windowed-minutes")),
        len(bench.records("windowed-late")),
    )
