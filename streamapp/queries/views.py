"""Read-only access to a running worker: committed rows, partition owners, progress.

Rows come from the stores alone, never from an overlay, and without an await between finding the task and reading it:
a task that is ours now is complete, and what its store shows is what Kafka has committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from streamapp.clock import SYSTEM_CLOCK
from streamapp.driver.placements import Placements
from streamapp.driver.session import Session
from streamapp.driver.tables.inbox import InboxTable
from streamapp.errors import StateCorrupted, StoreError, StreamAppError
from streamapp.queries.owners import PartitionOwners
from streamapp.queries.table_view import InboxView, ShownRow, TableView
from streamapp.queries.window_view import WindowView
from streamapp.state import TablePartition, UnitEnded
from streamapp.types import Partition

if TYPE_CHECKING:
    from streamapp.engine.task import Task

#: Rows are read in portions until a page is full or has this many bytes of values.
_PORTION_ROWS = 20


class NotReady(Exception):
    """Nobody can answer now, or not here: the caller asks again in a moment. `str()` says why."""


class Version(NamedTuple):
    """Which committed state an answer shows."""

    partition: int
    changelog: str
    #: Changelog records below it are in the answer; None: nothing was ever written.
    committed_offset: int | None
    #: Input topic -> committed offset: events below it are in the answer.
    inputs: Mapping[str, int]
    #: Seconds since the epoch: when the store last caught up with Kafka.
    as_of: float


class Views:
    """What readers outside may ask a worker. One worker's, from its connection to Kafka until it stops."""

    def __init__(self, app: Any, session: Session) -> None:
        self.engine = session.engine
        self.restoring = session.restoring
        self._app = app
        self._placements = Placements(app)
        self._members = PartitionOwners(session.cluster, app.settings.id, SYSTEM_CLOCK)

    # --- tables

    @property
    def tables(self) -> dict[str, str]:
        """Table name -> what it is about, in the order of names."""
        return {name: table.help or "" for name, table in sorted(self._app.tables.items())}

    def view(self, table: str) -> TableView:
        """How a table is shown. `KeyError`: there is none of that name."""
        return view_of(self._app.tables[table])

    async def partition_count(self, table: str) -> int:
        """Partitions of a table. Raises `NotReady` while its changelog is not known."""
        return await self._count(self._app.tables[table].changelog_topic_name)

    def partitions_of(self, table: str, event_key: bytes, count: int) -> list[int]:
        """The partitions in which a row of an event's key can be; mostly one."""
        return self._placements.partitions(table, event_key, count)

    async def owner(self, table: str, partition: int) -> str:
        """Where the owner of a table's partition answers. Raises `NotReady` when nobody is, or has no views."""
        count = await self.partition_count(table)
        for (topic, number), address in (await self._members.owners()).items():
            if number == partition and await self._count(topic) == count:
                if address is None:
                    raise NotReady(f"the owner of {table}[{partition}] was started with --without-web")
                return address
        raise NotReady(f"{table}[{partition}] is changing hands")

    def forget_owners(self) -> None:
        """An owner that was asked does not own it any more."""
        self._members.forget()

    def owns(self, table: str, partition: int) -> bool:
        """Whether this worker can answer for it now."""
        return self._task(table, partition) is not None

    def find(
        self, table: str, partition: int, key: bytes, event_key: bytes | None, *, is_stored: bool
    ) -> tuple[Any, Version]:
        """The committed value of a row, or None. Raises `NotReady` when the partition is not ours."""
        task, store = self._mine(table, partition)
        with _readable():
            value = self.view(table).find(store.committed, key, event_key, is_stored=is_stored)
            return value, self._version(task, store, table)

    def page(
        self, table: str, partition: int, after: bytes | None, limit: int, bytes_max: int
    ) -> tuple[list[ShownRow], bytes | None, Version]:
        """Rows behind a stored key, the stored key to go on behind (None: that was all), and the version."""
        task, store = self._mine(table, partition)
        view, found = self.view(table), list[ShownRow]()
        with _readable():
            while len(found) < limit:
                portion = view.page(store.committed, after, min(_PORTION_ROWS, limit - len(found)))
                if not portion:
                    return found, None, self._version(task, store, table)
                for after, row in portion:
                    found.append(row)
                    bytes_max -= row.size
                    if bytes_max <= 0:
                        return found, after, self._version(task, store, table)
            return found, after, self._version(task, store, table)

    async def _count(self, topic: str) -> int:
        try:
            return (await self.engine.producer.ensure(topic, patience_s=1.0)).partition_count
        except StreamAppError as exc:
            raise NotReady(str(exc)) from exc

    def _mine(self, table: str, partition: int) -> tuple[Task, TablePartition]:
        task = self._task(table, partition)
        if task is None:
            raise NotReady(f"{table}[{partition}] is not owned by this worker now")
        return task, task.stores[table]

    def _task(self, table: str, partition: int) -> Task | None:
        for task in self.engine.tasks:
            if task.number == partition and table in task.stores:
                return task
        return None

    def _version(self, task: Task, store: TablePartition, table: str) -> Version:
        committed = self.engine.committed
        inputs = {at.topic: committed[at] for at in task.inputs if at in committed}
        return Version(
            task.number, self.engine.changelogs[table], store.checkpoint, inputs, self.engine.commits.caught_up_at
        )

    # --- how far everything is

    @property
    def unready(self) -> str | None:
        """Why this worker is not ready to work and to answer, or None. One without partitions stands by, ready."""
        if self.engine.over or self._app.should_stop:
            return "the worker is ending"
        if self.engine.membership is None:
            left = self.restoring.remaining
            return f"restoring, {left:,} changelog records left" if left else "partitions are changing hands"
        return None

    def lags(self) -> Iterator[tuple[Partition, int]]:
        """Records of each owned input that are not committed yet, as the last fetch saw its end."""
        consumer = self.engine.consumer
        for partition, committed in self.engine.committed.items():
            end = consumer.end(partition) if consumer is not None else None
            if end is not None:
                yield partition, max(0, end - committed)

    def buffered(self) -> Iterator[tuple[Partition, int]]:
        """Records of each owned input that were fetched and have not started."""
        for task in self.engine.tasks:
            for partition, it in task.inputs.items():
                yield partition, it.buffered

    def rows(self) -> Iterator[tuple[str, int, int]]:
        """Table, partition and about how many rows it has, of everything owned."""
        for task in self.engine.tasks:
            for table, store in task.stores.items():
                yield table, task.number, store.committed.approximate_count()


#: The views of each session, which live as long as it does: they remember who owns which partition.
_VIEWS: WeakKeyDictionary[Session, Views] = WeakKeyDictionary()


def views_of(app: Any) -> Views | None:
    """What outsiders may see of this app's worker; None while it is not connected."""
    session: Session | None = app.session
    if session is None:
        return None
    if session not in _VIEWS:
        _VIEWS[session] = Views(app, session)
    return _VIEWS[session]


def view_of(table: Any) -> TableView:
    """How a table is shown, by what its rows are."""
    if isinstance(table, InboxTable):
        return InboxView(table)
    return TableView(table) if table.windowed is None else WindowView(table.windowed)


@contextmanager
def _readable() -> Iterator[None]:
    """A store that closes or fails while it is read: the caller asks again, and the worker ends if it must."""
    try:
        yield
    except (UnitEnded, StoreError, StateCorrupted) as exc:
        raise NotReady(str(exc)) from exc
