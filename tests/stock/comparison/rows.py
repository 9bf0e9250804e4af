"""The rows that were reproduced with an app: each says what was seen of one engine, and whether the promise held."""

from __future__ import annotations

import math
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import NamedTuple

from comparison.side import Side, came

#: Long enough that everything is processed before the first commit.
LONG_S = 3.0
RESTARTS = 6


class Seen(NamedTuple):
    """What one engine did."""

    held: bool
    text: str


class Row(NamedTuple):
    """A row of the study's table of defects."""

    numbers: str
    what: str
    scenario: str
    look: Callable[[Side], Seen]


def outcome(outputs: Iterable[str], wanted: Iterable[str]) -> Seen:
    """Each wanted output exactly once, and no other."""
    found, right = Counter(outputs), Counter(wanted)
    lost, doubled = (right - found).total(), (found - right).total()
    return Seen(not lost and not doubled, f"{lost} of {right.total()} outputs lost, {doubled} doubled")


def killed_before_the_commit(side: Side) -> Seen:
    """Five events, processed and not committed; kill -9; the next worker."""
    side.send(range(5))
    with side.worker(commit_s=LONG_S):
        came(lambda: len(side.processed()) >= 5)
        early = len(side.committed())
    with side.worker():
        came(lambda: side.offset() >= 5)
        seen = outcome(side.settled(), map(str, range(5)))
    return seen._replace(text=f"{early} outputs visible before the commit; after kill -9 and a restart {seen.text}")


def repartitioned(side: Side) -> Seen:
    """Ten events of one partition through group_by, no fault; a minute later one of the other partition."""
    side.send(range(10), partition=0)
    with side.worker() as process:
        came(lambda: side.offset() >= 10)
        found = side.settled()
        if len(found) < 10:  # the broker gives a transaction up after 60 s
            came(lambda: process.poll() is not None, 75)
            side.send([10], partition=1)
            came(lambda: process.poll() is not None or "10" in side.committed(), 20)
            found = side.settled()
        seen = outcome([it for it in found if it != "10"], map(str, range(10)))
        end = "runs" if process.poll() is None else f"ended with {process.poll()}"
    return seen._replace(text=f"{seen.text}; offset {side.offset()} committed, the worker {end}")


def dying_at_the_commit(side: Side) -> Seen:
    """2,000 table rows; kill -9 right behind the first commit; does the changelog have what the offset says?"""
    side.send(range(2000))
    plan = {
        "FAULT_PLAN_ALLOWED": "1",
        "FAULT_PLAN": '[{"point": "commit.after_store", "action": "kill", "nth": 1}]',
        "FAULT_PLAN_HITS": str(side.directory / "hits"),
    }
    with side.worker(commit_s=LONG_S, DIES_AT_COMMIT="1", **(plan if side.engine == "ours" else {})) as process:
        came(lambda: process.poll() is not None)
    offset, rows = side.offset(), len(set(side.committed("changelog:rows")))
    return Seen(offset == rows > 0, f"offset {offset:,} committed, {rows:,} rows in the changelog")


def rebalanced(side: Side) -> Seen:
    """400 events under three clean rebalances: one worker, two, three, two."""
    with ExitStack() as workers:
        first = workers.enter_context(side.worker(STATE="1"))
        came(lambda: "ready" in side.log.lower())
        for number, joins in enumerate((True, True, False)):
            side.send(range(number * 130, number * 130 + 130))
            before = len(side.processed())
            came(lambda: len(side.processed()) > before + 10, 30)  # noqa: B023 - asked within this turn
            if joins:
                workers.enter_context(side.worker(STATE=str(number + 2)))
                time.sleep(6)
            else:
                first.send_signal(signal.SIGTERM)
                came(lambda: first.poll() is not None, 30)
        side.send(range(390, 400))
        came(lambda: side.offset() >= 400, 120)
        seen, offset = outcome(side.settled(quiet_s=6), map(str, range(400))), side.offset()
    if offset < 400:
        errors = [line for line in side.log.splitlines() if "Error" in line]
        return Seen(False, f"it stands still at offset {offset} of 400: {_said(errors[-1]) if errors else 'it hangs'}")
    return seen._replace(text=f"{seen.text}; offset {offset} of 400 committed")


def killed_inside_an_event(side: Side) -> Seen:
    """kill -9 while the second event waits between its two outputs, commits every 0.3 s."""
    side.send(range(4), partition=0)
    with side.worker():
        came(lambda: "waits" in side.processed())
        time.sleep(2)
        early = side.committed()
    with side.worker():
        came(lambda: side.offset() >= 4)
        seen = outcome(side.settled(), (f"{value}-{half}" for value in range(4) for half in "ab"))
    return seen._replace(text=f"half of the running event committed: {'yes' if '2-a' in early else 'no'}; {seen.text}")


def restarted(side: Side) -> Seen:
    """Clean restarts, one event each: the table's number must go on; seconds from start to the event's output."""
    took = []
    for number in range(RESTARTS):
        side.send([number], partition=0)
        began = time.monotonic()
        with side.worker() as process:
            in_time = came(lambda: len(side.committed()) > number)  # noqa: B023 - asked within this turn
            took.append(time.monotonic() - began if in_time else math.inf)
            came(lambda: side.offset() > number, 10)  # noqa: B023
            process.send_signal(signal.SIGTERM)
            came(lambda: process.poll() is not None, 40)
    in_order = sorted(side.committed(), key=lambda value: int(value.split()[0]))  # they lie in two partitions
    numbers = [int(value.split()[1]) for value in in_order]
    right = numbers == list(range(1, RESTARTS + 1))
    seconds = ", ".join("none in time" if it == math.inf else f"{it:.1f}" for it in took)
    said = f"table's numbers {numbers} over {RESTARTS} clean starts"
    return Seen(right and max(took[1:]) < 10, f"{said}; seconds from each start to its event's output: {seconds}")


def stored_offset(side: Side) -> Seen:
    """After a clean run: how much of the changelog does a restart read? (Stock stores an offset while it restores.)"""
    side.send(range(50), partition=0)
    for _ in range(2 if side.engine == "ours" else 1):
        with side.worker() as process:
            came(lambda: side.offset() >= 50)
            time.sleep(1 if side.engine == "ours" else 14)  # stock: until its recovery has ended
            process.send_signal(signal.SIGTERM)
            came(lambda: process.poll() is not None, 40)
    if side.engine == "ours":
        read = sum(int(n.replace(",", "")) for n in re.findall(r"restored \d+ stores, ([\d,]+)", side.log))
        return Seen(read <= 2 * 2, f"the second start read {read} offsets (markers)")
    return _stock_offset(side)


def _stock_offset(side: Side) -> Seen:
    from rocksdict import AccessType, Options, Rdict

    keys = []
    for path in side.directory.glob("state-*/**/tables/*.db"):
        store = Rdict(str(path), options=Options(raw_mode=True), access_type=AccessType.read_only())
        keys += [key for key in store.keys() if b"offset" in key]  # noqa: SIM118 - not a dictionary
        store.close()
    records = len(side.committed("changelog:seen"))
    return Seen(
        bool(keys), f"{len(keys)} stored offsets in its RocksDB directories, {records} records in the changelog to read"
    )


def raised(side: Side) -> Seen:
    """The agent raises in the middle of event 3."""
    side.send(range(6), partition=0)
    with side.worker():
        came(lambda: side.offset() >= 6)
        outputs = side.settled()
    letters = len(side.committed("in-dlt")) if side.engine == "ours" else 0
    half = "3-a" in outputs
    seen = outcome([it for it in outputs if it[0] != "3"], (f"{v}-{h}" for v in range(6) if v != 3 for h in "ab"))
    return Seen(
        seen.held and not half and letters == 1,
        f"offset {side.offset()}; half of the raising event committed: {'yes' if half else 'no'}; "
        f"kept as a dead letter: {'yes' if letters else 'no, it is gone'}; of the others {seen.text}",
    )


def without_tables(side: Side) -> Seen:
    """An app without tables and without standbys."""
    side.send(range(3))
    with side.worker() as process:
        came(lambda: process.poll() is not None or side.offset() >= 3, 40)
        done = side.offset() >= 3
        errors = [line for line in side.log.splitlines() if "Error" in line]
    return Seen(done, "it works" if done else f"nothing is consumed: {_said(errors[0]) if errors else 'it hangs'}")


def _said(line: str) -> str:
    """An error as a worker logged it, without time, process and service."""
    return re.sub(r"^\[.*\]: (Crashed reason=)?", "", line.strip())[:120]


ROWS = (
    Row("1", "output to a topic the app does not consume", "copy", killed_before_the_commit),
    Row("2", "`group_by`, no fault", "repartition", repartitioned),
    Row("3", "a table that skips repeats, kill -9 before the commit", "dedup", killed_before_the_commit),
    Row("4", "kill -9 right behind a commit", "keys", dying_at_the_commit),
    Row("5", "three clean rebalances", "consumed_copy", rebalanced),
    Row("6", "kill -9 inside an event", "halves", killed_inside_an_event),
    Row("7, 8", "clean restarts", "count", restarted),
    Row("10", "the changelog's stored offset", "dedup", stored_offset),
    Row("18", "an agent that raises", "raising", raised),
    Row("21", "an app without tables", "without_tables", without_tables),
)
