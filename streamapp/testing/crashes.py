"""`crash_everywhere(scenario)`: the same scenario with a crash at every point, and the same effects each time.

    def scenario(app):
        app.feed("order", {"order_id": "1", "customer": "ann", "cents": 250})

    crash_everywhere(scenario, "shop")

What an agent does inside the transaction happens once, wherever the worker dies. What it does beside it (a file, a
call to another service, a variable of the module) happens again or is forgotten; that is what this finds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from streamapp.delivery.after_commit import TABLE as INTENTS
from streamapp.delivery.dead_letter import SUFFIX
from streamapp.delivery.inbox import TABLE as INBOX
from streamapp.delivery.inbox import Mark
from streamapp.eos.positions import positions_topic, read_position
from streamapp.testing import readings
from streamapp.testing.app_loader import SERVICE
from streamapp.testing.bench import Bench
from streamapp.testing.crash_points import POINTS

#: Called once a crash with a bench of its own; what it returns is compared, too.
Scenario = Callable[[Bench], Any]
#: What becomes of the worker's disk in the crash.
Disk = Literal["kept", "lost"]

#: Reached before a worker has done anything; so another crash comes before.
_OF_THE_START = ("assign.before_offsets", "assign.before_restore", "restore.half_done", "assign.before_fetch")
#: Reached when partitions move.
_OF_A_REBALANCE = ("revoke.before_commit", "revoke.after_commit")
#: Headers that say when and where, which a crash may change.
_PLACE = frozenset(f"{kind}-original-{what}" for kind in ("dlt", "late") for what in ("timestamp", "offset"))
_SHOWN_MAX = 5


class Crash(NamedTuple):
    """One run: the worker died at `point`, its `hit`th time of `of`; `differences` from the run without a crash."""

    point: str
    hit: int
    of: int
    disk: Disk
    differences: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The point, what a worker does there, and which time it was."""
        return f"{self.point} ({POINTS[self.point]}), hit {self.hit} of {self.of}"

    def __str__(self) -> str:
        return f"{self.place}, disk {self.disk}"


class CrashReport(NamedTuple):
    """Every run; points in `not_reached` have no meaning for this scenario, such as those of an inbox it has not."""

    crashes: tuple[Crash, ...]
    not_reached: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.crashes)} crashes at {len({crash.point for crash in self.crashes})} points:"]
        lines += [f"  {crash}{': DIFFERS' if crash.differences else ''}" for crash in self.crashes]
        return "\n".join([*lines, f"not reached: {', '.join(self.not_reached) or 'none'}"])


class CrashMatters(AssertionError):
    """A crash changed what happened; `report` has every run."""

    def __init__(self, text: str, report: CrashReport) -> None:
        super().__init__(text)
        self.report = report


def crash_everywhere(
    scenario: Scenario,
    target: str = SERVICE,
    *,
    points: Iterable[str] | None = None,
    disks: Iterable[Disk] = ("kept", "lost"),
    seed: int = 0,
    **settings: Any,
) -> CrashReport:
    """Run `scenario(bench)` without a crash, and then once for each crash point and disk; compare the effects.

    Effects: the committed records of every topic (in any order), tables, dead letters, and what the scenario returns.
    Of upserts with `emit_every` only the last one of each row: a clock decides which come between.
    `points`: only these. `seed` chooses the hit of a point that is reached several times. Raises `CrashMatters` with
    each difference and how to repeat it; `ValueError` for a point that the scenario does not reach.
    """
    __tracebackhide__ = True
    expected, reached = _run(scenario, target, seed, settings, ())
    wanted = [*POINTS] if points is None else [*points]
    crashes, not_reached = [], []
    for point in wanted:
        of = _hits(point, reached)
        if not of:
            not_reached.append(point)
            continue
        hit = random.Random(f"{seed} {point}").randint(1, of)  # noqa: S311 - a choice that can be repeated
        for disk in disks:
            if point == "restore.half_done" and disk == "kept":
                continue  # a disk that was kept has nothing to restore, or next to nothing
            plan = ((_BEFORE, _middle(reached[_BEFORE])), (point, 1)) if point in _OF_THE_START else ((point, hit),)
            found, _ = _run(scenario, target, seed, settings, plan, disk)
            differences = tuple(_differences(expected, found))
            crashes.append(Crash(point, 1 if point in _OF_THE_START else hit, of, disk, differences))
    report = CrashReport(tuple(crashes), tuple(not_reached))
    if points is not None and not_reached:
        raise ValueError(f"The scenario does not reach {', '.join(not_reached)}.")
    if any(crash.differences for crash in crashes):
        raise CrashMatters(_explained(report, seed), report)
    return report


#: Crashes of the start come after one here: committed, and the disk is behind.
_BEFORE = "commit.before_store"


def _hits(point: str, reached: Mapping[str, int]) -> int:
    if point in _OF_THE_START:
        return 1 if reached[_BEFORE] else 0
    return 1 if point in _OF_A_REBALANCE and reached["event.before_effects"] else reached[point]


def _middle(count: int) -> int:
    return (count + 1) // 2


class Effects(NamedTuple):
    """What a run left behind."""

    outputs: Mapping[str, list[Any]]
    tables: Mapping[str, Mapping[Any, Any]]
    returned: Any
    #: Why the run has no effects to compare, or what is wrong with them by themselves.
    failure: str | None = None


def _run(
    scenario: Scenario,
    target: str,
    seed: int,
    settings: Mapping[str, Any],
    plan: tuple[tuple[str, int], ...],
    disk: Disk = "kept",
) -> tuple[Effects, Mapping[str, int]]:
    with Bench(target, seed=seed, **settings) as bench:
        bench.loses_its_disk = disk == "lost"
        for point, nth in plan:
            if point in _OF_A_REBALANCE:
                bench.rebalance_at("event.before_effects", 1)
            bench.crash_at(point, nth)
        try:
            returned = scenario(bench)
            bench.settle()
            reached = bench.points.reached.copy()
            bench.stop()
            reached["shutdown.before_commit"] = bench.points.reached["shutdown.before_commit"]
            if left := bench.points.planned:
                return Effects({}, {}, None, f"{left} was not reached: the scenario does not repeat itself"), reached
            return _effects(bench, returned), reached
        except Exception as exc:
            if not plan:
                raise
            return Effects({}, {}, None, f"the scenario failed: {type(exc).__name__}: {exc}"), {}


def _effects(bench: Bench, returned: Any) -> Effects:
    limited = {upserts.topic: upserts for upserts in bench.app.limited_upserts}
    bench.advance(2 * max((upserts.every_ms / 1000 for upserts in limited.values()), default=0))
    bench.settle()
    broker, tables, app = bench.broker, {}, bench.app
    changelogs = {table.changelog_topic_name: name for name, table in app.tables.items()}
    for changelog, name in changelogs.items():
        rows: dict[bytes, Any] = dict(readings.fold(broker, changelog))
        if rows != bench.on_disk(name):
            return Effects({}, {}, None, f"the disk of table {name} is not what its changelog says")
        tables[name] = {key: Mark.unpack(raw).status for key, raw in rows.items()} if name == INBOX else rows
    positions = positions_topic(app.settings.id)
    if apart := _apart(bench, positions):
        return Effects({}, {}, None, apart)
    outputs = {
        topic: [_without_place(record) for record in readings.contents(broker, topic)]
        for topic in broker.topics
        if topic not in changelogs and topic not in limited and topic != positions
    }
    outputs |= {topic: sorted(readings.fold(broker, topic).items()) for topic in limited}
    for name in (INTENTS, *(upserts.marks.name for upserts in limited.values())):
        tables.pop(name, None)
    return Effects(outputs, tables, returned)


def _apart(bench: Bench, positions: str) -> str | None:
    """Which position is not the group's offset, if one is not: they are of one transaction."""
    if bench.app.settings.processing_guarantee != "exactly_once":
        return None
    committed = bench.broker.group(bench.app.settings.id).offsets.committed
    for key, value in readings.fold(bench.broker, positions).items():
        partition, position = read_position(key, value)
        offset = committed.get(partition)
        if position is not None and offset is not None and offset != position.offset:
            return f"the position of {partition} is {position.offset}, and the group's offset {offset}"
    return None


def _without_place(record: tuple[int, Any, Any, Any]) -> tuple[Any, ...]:
    partition, key, value, headers = record
    return partition, key, value, tuple(pair for pair in headers if pair[0] not in _PLACE)


def _differences(expected: Effects, found: Effects) -> Iterator[str]:
    if found.failure is not None:
        yield found.failure
        return
    for topic in sorted(expected.outputs.keys() | found.outputs.keys()):
        before, after = expected.outputs.get(topic, []), found.outputs.get(topic, [])
        if before != after:
            what = f"dead letters in {topic}" if topic.endswith(SUFFIX) else f"records in {topic}"
            yield f"{what}: {_compared(before, after)}"
    for name in sorted(expected.tables.keys() | found.tables.keys()):
        rows, others = expected.tables.get(name, {}), found.tables.get(name, {})
        if rows != others:
            yield f"table {name}: {_compared(sorted(rows.items()), sorted(others.items()))}"
    before, after = expected.returned, found.returned
    if before != after:
        listed = isinstance(before, list) and isinstance(after, list)
        yield f"what the scenario returned: {_compared(before, after) if listed else f'{before!r} became {after!r}'}"


def _compared(before: list[Any], after: list[Any]) -> str:
    """What is gone and what is new, a few of each."""
    gone, new = list(before), []
    for each in after:
        if each in gone:
            gone.remove(each)
        else:
            new.append(each)
    parts = [f"{len(before)} became {len(after)}"]
    for what, some in (("missing", gone), ("new", new)):
        if some:
            more = f" and {len(some) - _SHOWN_MAX} more" if len(some) > _SHOWN_MAX else ""
            parts.append(f"{what}: {', '.join(map(_shown, some[:_SHOWN_MAX]))}{more}")
    return "; ".join(parts)


def _shown(record: Any) -> str:
    """A record or a row, without its partition and headers; or whatever a scenario has listed."""
    if not isinstance(record, tuple) or len(record) not in (2, 4):
        return repr(record)
    key, value = record if len(record) == 2 else record[1:3]
    return f"{_text(key)}={_text(value)}"


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else str(raw)


def _explained(report: CrashReport, seed: int) -> str:
    wrong = [crash for crash in report.crashes if crash.differences]
    alike: dict[tuple[Any, ...], list[Crash]] = {}
    for crash in wrong:
        alike.setdefault((crash.point, crash.differences), []).append(crash)
    lines = [f"{len(wrong)} of {len(report.crashes)} crashes changed what happened (without one it is otherwise):"]
    for crashes in list(alike.values())[:_SHOWN_MAX]:
        disks = " or ".join(crash.disk for crash in crashes)
        lines.append(f"  at {crashes[0].place}, disk {disks}:")
        lines += [f"    {difference}" for difference in crashes[0].differences]
    if len(alike) > _SHOWN_MAX:
        rest = sorted({crashes[0].point for crashes in list(alike.values())[_SHOWN_MAX:]}, key=[*POINTS].index)
        lines.append(f"  and at {', '.join(rest)}")
    lines += [
        "What is not sent, or written to a table, inside the event is not part of its transaction: it happens again",
        "when the event runs again, and is forgotten when the process ends. `after_commit` is for such effects.",
        f'To repeat one: crash_everywhere(scenario, ..., points=["{wrong[0].point}"], seed={seed})',
    ]
    return "\n".join(lines)
