"""A worker whose tables have windows, for the shots of `test_windows.py`.

    python tests/crash/windowed_worker.py worker ...          as the command line
    python tests/crash/windowed_worker.py W1 worker ...       with one deliberate mistake (`MUTANTS`)

`taps` in, of any key; `minutes` (tumbling) and `spans` (hopping) out. Few closings a unit, so that the windows of one
instant are closed in several units and transactions.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

if __name__ == "__main__" and sys.argv[1:2] != [
    "worker"
]:  # a function that is compiled cannot be replaced; its Python is the same
    os.environ["STREAMAPP_PURE"] = "1"

from streamapp.windows import Count, Sum

#: Seconds.
TUMBLING, HOPPING, STEP, GRACE, RETENTION = 20, 30, 10, 5, 15
CLOSINGS_MAX = 3
START = datetime(2026, 1, 1, tzinfo=UTC)
#: An amount nobody can add up.
UNREADABLE = "much"


def taps(seed: random.Random, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records of a dozen keys: event time goes on by fits and starts, some are late, and some are bad."""
    now = 0
    for _ in range(count):
        now += seed.choice([0, 0, 0, 1, 1, 3])
        late = seed.choice([0, 0, 0, 0, 2, GRACE, HOPPING, HOPPING + GRACE + 1])
        bad = seed.random() < 0.03  # and must not move the watermark
        at = START + timedelta(seconds=now + 200 if bad else max(0, now - late))
        amount = UNREADABLE if bad else seed.randint(-50, 50)
        yield f"key-{seed.randint(1, 12)}", {"occurred_at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "amount": amount}


def declare() -> Any:
    """One agent, two tables."""
    from streamapp import App

    app = App(autodiscover=False)
    tables = [
        app.Table("minutes").tumbling(TUMBLING, grace=GRACE, retention=RETENTION, topic="taps"),
        app.Table("spans").hopping(HOPPING, STEP, grace=GRACE, retention=0, topic="taps"),
    ]
    for table in tables:
        table.aggregate(count=Count(), amount=Sum("amount")).upsert_to(app.topic(table.name))
        table.book._closings_max = CLOSINGS_MAX

    @app.agent(app.topic("taps"))
    async def add(stream: Any) -> None:
        async for event in stream.events():
            for table in tables:
                table.add(event.key.decode(), event.value)

    return app


def forgets_the_watermark() -> None:
    """The progress is kept in the process and not in the table."""
    from streamapp.windows import logic as book
    from streamapp.windows import rows
    from streamapp.windows.progress import Progress

    kept: dict[Any, Progress] = {}

    def progress_of(unit: Any) -> Progress:
        return kept.get(unit._partition.name, Progress())

    def replaced(self: Any, unit: Any, before: Progress, progress: Progress) -> Any:
        progress, upserts = self._close(unit, progress)
        kept[unit._partition.name] = progress
        return upserts

    add = book.WindowLogic.add

    def adding(self: Any, unit: Any, *more: Any) -> Any:
        added = add(self, unit, *more)
        unit._staged.pop(rows.PROGRESS, None)
        kept[unit._partition.name] = added.progress
        return added

    book.progress_of = progress_of
    book.WindowLogic._advance = replaced  # type: ignore[method-assign]
    book.WindowLogic.add = adding  # type: ignore[method-assign]


def deletes_at_once() -> None:
    """A closed window is deleted from the disk when its final is staged, before anything is committed."""
    from streamapp.windows import logic as book

    whole = book.WindowLogic._send_finals

    def at_once(self: Any, rows: Any, progress: Any, upserts: Any) -> Any:
        after = whole(self, rows, progress, upserts)
        rows._partition._storage.write([change for change in rows._staged.items() if change[1] is None], None)
        return after

    book.WindowLogic._send_finals = at_once  # type: ignore[method-assign]


def forgets_the_final() -> None:
    """The last upsert of a window does not say that it is the final."""
    from streamapp.driver.tables.upserts import Upserts

    whole = Upserts.send_window

    def plain(self: Any, unit: Any, key: str, window: Any, result: Any, revision: int, final: bool) -> None:
        whole(self, unit, key, window, result, revision, False)

    Upserts.send_window = plain  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "W1": forgets_the_watermark,
    "W2": deletes_at_once,
    "W3": forgets_the_final,
}


def __getattr__(name: str) -> Any:
    # Made when `-A windowed_worker:app` asks for it, so that the shots' own process can read the constants.
    if name != "app":
        raise AttributeError(name)
    app = globals()["app"] = declare()
    return app


def main(arguments: list[str]) -> None:
    if arguments[0] in MUTANTS:
        MUTANTS[arguments.pop(0)]()
    sys.argv = ["streamapp", arguments[0], "-A", "windowed_worker:app", *arguments[1:]]
    from streamapp.cli.main import main as run

    run()


if __name__ == "__main__":
    main(sys.argv[1:])
