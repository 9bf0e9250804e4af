"""The memory store: the contract of the rocksdict one in dictionaries, for STORE=memory and for tests.

What was committed outlives `close()` as long as the `MemoryState` lives, as a directory does; a process that ends
loses it and restores from the changelog.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from streamapp.errors import ConfigurationError
from streamapp.state.identity import StoreIdentity
from streamapp.state.overlay import Change, UnitEnded
from streamapp.state.partition import TablePartition
from streamapp.state.segments import FOREVER


class SortedRows:
    """A dictionary with its keys in order, sorted again only after a key came or went."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self._keys: list[bytes] | None = None

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.values:
            self._keys = None
        self.values[key] = value

    def remove(self, key: bytes) -> None:
        if self.values.pop(key, None) is not None:
            self._keys = None

    def between(self, start: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        if self._keys is None:
            self._keys = sorted(self.values)
        keys = self._keys
        last = len(keys) if stop is None else bisect_left(keys, stop)
        # A reader may go on while a commit replaces the rows: what is gone by then is left out.
        for key in islice(keys, bisect_left(keys, start), last):
            value = self.values.get(key)
            if value is not None:
                yield key, value


class MemoryStorage:
    """A `Storage` in dictionaries. Closing and opening again keeps what was committed."""

    def __init__(self, name: str, *, segmented: bool) -> None:
        self._name = name
        self._rows: dict[int, SortedRows] = {} if segmented else {FOREVER: SortedRows()}
        self.closed = False
        self.segments: list[int] = list(self._rows)
        self.checkpoint: int | None = None

    def open(self) -> None:
        if not self.closed:
            raise ConfigurationError(f"{self._name} is open already; close it first")
        self.closed = False

    @property
    def get(self) -> Callable[[bytes], bytes | None]:
        return self._get

    def _get(self, key: bytes) -> bytes | None:
        self._check_open()
        for end_s in self.segments:
            value = self._rows[end_s].values.get(key)
            if value is not None:
                return value
        return None

    def get_all(self, keys: list[bytes]) -> list[bytes | None]:
        return [self._get(key) for key in keys]

    def layers(self, start: bytes, stop: bytes | None) -> list[Iterator[tuple[bytes, bytes]]]:
        self._check_open()
        return [self._rows[end_s].between(start, stop) for end_s in self.segments]

    def write(self, changes: Iterable[Change], checkpoint: int | None) -> None:
        self._check_open()
        for key, value in changes:
            if value is None:
                for rows in self._rows.values():
                    rows.remove(key)
            else:
                self._rows[self.segments[0]].put(key, value)
        if checkpoint is not None:
            self.checkpoint = checkpoint

    def add_segment(self, end_s: int) -> None:
        self._check_open()
        self._rows[end_s] = SortedRows()
        self.segments.insert(0, end_s)

    def drop_segment(self, end_s: int) -> None:
        self._check_open()
        self.segments.remove(end_s)
        del self._rows[end_s]

    def approximate_count(self) -> int:
        self._check_open()
        return sum(len(rows.values) for rows in self._rows.values())

    def close(self) -> None:
        self.closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise UnitEnded(f"{self._name} is closed")


class MemoryState:
    """The partitions of a worker, in memory. The same methods as `StateDirectory`."""

    def __init__(self) -> None:
        self._stored: dict[tuple[str, int], tuple[StoreIdentity, MemoryStorage]] = {}

    def open_partition(self, identity: StoreIdentity, retention_s: int | None = None) -> TablePartition:
        name = identity.name
        key = (identity.table, identity.partition)
        if key in self._stored:
            stored, storage = self._stored[key]
            identity.check_same(stored, f"the memory of {name}")
            storage.open()
        else:
            storage = MemoryStorage(name, segmented=retention_s is not None)
            self._stored[key] = (identity, storage)
        return TablePartition(name, storage, retention_s)

    def wipe(self, table: str, partition: int) -> None:
        """Forget what this partition stored. Close it first."""
        _, storage = self._stored.get((table, partition), (None, None))
        if storage is not None and not storage.closed:
            raise ConfigurationError(f"{table}[{partition}] is open; close it before it is wiped.")
        self._stored.pop((table, partition), None)

    def close(self) -> None:
        """Close every partition; what they committed stays with this object."""
        for _, storage in self._stored.values():
            storage.close()
