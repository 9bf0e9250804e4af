"""One partition of one table: units write into its overlay, a commit carries the overlay to storage.

    unit = partition.begin()       one event's reads and writes
    unit.merge()                   it is finished; or unit.drop()
    partition.seal()               a transaction gets what has finished: what the changelog must be told
    partition.commit(checkpoint)   it is committed: one atomic batch; what finished since the seal stays open
    partition.abort()              or it is not: everything uncommitted is forgotten, what came after the seal, too

A unit sees its own writes over the open overlay over the sealed one over the disk: what is sealed may still be aborted,
but not without everything that saw it. Until `commit` nothing is on disk, so nothing ever has to be undone there, and
`committed` shows outside readers what Kafka has committed and no more. Values and checkpoint are one batch: a crash
leaves both or neither, and the changelog from the checkpoint on repairs the rest.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator
from itertools import islice

from streamapp.failpoints import failpoint
from streamapp.state.keys import key_range
from streamapp.state.overlay import MISSING, Change, Ended, KeyOrder, Overlay, UnitEnded, merged
from streamapp.state.segments import FOREVER, is_expired, segment_end_s
from streamapp.state.storage import Storage
from streamapp.state.unit import StoreTransaction

#: Records of one batch while restoring: large enough to amortise the call, small enough to stay below 1 MiB or so.
RESTORE_BATCH = 5_000


class TablePartition:
    """One partition of a table: uncommitted changes over committed rows.

    `retention_s` None keeps every key; else call `advance()` before the event's writes.
    """

    def __init__(self, name: str, storage: Storage, retention_s: int | None = None) -> None:
        self.name = name
        self.overlay: Overlay = {}
        self.committed = Committed(storage)
        self._order = KeyOrder(self.overlay)
        #: What a transaction in flight has of it; empty while there is none, or it has nothing.
        self._sealed: Overlay = {}
        self._sealed_order = self._order
        self._storage = storage
        self._retention_s = retention_s
        #: Append times below this go to the newest segment. Unknown until the first `advance` after opening.
        self._segment_end_s = FOREVER if retention_s is None else -1
        self._closed = False
        #: Reads what is below the overlay: what is sealed, over what is stored.
        self._read = storage.get
        #: Bytes of key and value that a change may have, so that the changelog takes it.
        self.bytes_max = 2**62
        #: Changes of what is below the overlay; what was read there before is true while it stays the same.
        self.version = 0

    def __repr__(self) -> str:
        pending = len(self.overlay) + len(self._sealed)
        return f"<Partition {self.name} checkpoint={self._storage.checkpoint} pending={pending}>"

    @property
    def checkpoint(self) -> int | None:
        """The offset of the next changelog record to read; None: never committed, restore from the beginning."""
        return self._storage.checkpoint

    @property
    def closed(self) -> bool:
        return self._closed

    def begin(self) -> StoreTransaction:
        """A unit that sees everything finished so far. Several may be open when they share no key."""
        if self._closed:
            raise UnitEnded(f"{self.name} is closed")
        return StoreTransaction(self, self.overlay, self._read)

    def read_all(self, keys: list[bytes]) -> list[bytes | None]:
        """What a unit would find that nothing finished has written to, of many keys at once.

        It stays true as long as `version` is the same.
        """
        found, sealed = self._storage.get_all(keys), self._sealed
        if not sealed:
            return found
        return [sealed.get(key, stored) for key, stored in zip(keys, found, strict=True)]

    def _sealed_or_stored(self, key: bytes) -> bytes | None:
        value = self._sealed.get(key, MISSING)
        return self._storage.get(key) if value is MISSING else value  # type: ignore[return-value]

    def _set_sealed(self, sealed: Overlay) -> None:
        self._sealed = sealed
        self._read = self._sealed_or_stored if sealed else self._storage.get

    def changes(self) -> ItemsView[bytes, bytes | None]:
        """What finished units wrote since the last seal: one change a key, in the order keys were first written."""
        return self.overlay.items()

    def seal(self) -> ItemsView[bytes, bytes | None]:
        """Part what has finished from what will: these changes are a transaction's, as `changes()` has them.

        Call it behind the barrier: units that are open can no longer merge. One transaction at a time: raises
        `UnitEnded` while another one's changes are neither committed nor aborted.
        """
        if self._closed or self._sealed:
            raise UnitEnded(f"{self.name} is closed, or sealed already and neither committed nor aborted")
        self._set_sealed(self.overlay)
        self._sealed_order = self._order
        self.overlay = {}
        self.version += 1
        return self._sealed.items()

    def commit(self, checkpoint: int) -> None:
        """Store what is sealed and `checkpoint` in one atomic batch; units may be open meanwhile.

        Where nothing is sealed, what has finished is. Raises `StoreError` when the disk refuses: nothing of the batch
        is stored, and what is sealed is kept.
        """
        self._check_forward(checkpoint)
        if self.overlay and not self._sealed:
            self.seal()
        if self._sealed:
            self._check_placed()
            self._storage.write(self._sealed.items(), checkpoint)
            self._set_sealed({})
        elif checkpoint != self._storage.checkpoint:
            self._storage.write((), checkpoint)

    def abort(self) -> None:
        """Forget what finished units wrote since the last commit, sealed or not; open units can no longer merge."""
        if not self._closed:
            self.overlay = {}
            self._set_sealed({})
            self.version += 1

    def restore(self, records: Iterable[Change], checkpoint: int, newest_s: int | None = None) -> None:
        """Apply changelog records in their order, past the overlay; `checkpoint` is stored after the last one.

        Stopped half-way it is simply done again: records from the old checkpoint on give the same values.
        With retention all records go to the segment of `newest_s`, an append time not below any of theirs (the
        changelog's last, the same for every call of one restore): they are kept longer, never shorter, and a
        changelog that reaches far back does not make a thousand segments.
        """
        self._check_forward(checkpoint)
        if self.overlay or self._sealed:
            raise UnitEnded(f"{self.name} holds uncommitted writes; commit or abort them before a restore")
        if self._retention_s is not None:
            if newest_s is None:
                raise ValueError(f"{self.name} has a retention: restore needs newest_s")
            self._place(newest_s)
        remaining = iter(records)
        while batch := list(islice(remaining, RESTORE_BATCH)):
            self._storage.write(batch, None)
        self._storage.write((), checkpoint)
        self.version += 1

    def advance(self, newest_s: int, oldest_s: int | None = None) -> None:
        """Append time has come to `newest_s`: what is written now belongs there; drop what the retention lets go.

        `oldest_s` is the lowest append time still to come, when a task reads several topics and one lags behind:
        by default `newest_s`. No key is dropped while it is younger than the retention seen from there.
        Never goes back: a replay of old events keeps what is there. Costs two comparisons when nothing changes.
        """
        if self._retention_s is None:
            return
        if newest_s >= self._segment_end_s:
            self._place(newest_s)
        horizon_s = newest_s if oldest_s is None else min(newest_s, oldest_s)
        while is_expired((oldest := self._storage.segments[-1]), horizon_s, self._retention_s):
            failpoint("inbox.before_expiry")
            self._storage.drop_segment(oldest)
            self.version += 1

    def layers(self, start: bytes, stop: bytes | None) -> list[Iterator[Change]]:
        """What is below a unit's overlay, for its iteration: what is sealed, over the committed rows."""
        stored: list[Iterator[Change]] = list(self._storage.layers(start, stop))
        if not self._sealed:
            return stored
        if self._sealed_order.overlay is not self._sealed:
            self._sealed_order = KeyOrder(self._sealed)
        return [self._sealed_order.between(start, stop), *stored]

    def ordered(self, overlay: Overlay) -> KeyOrder:
        """The order of a unit's overlay, for its iteration."""
        if self._order.overlay is not overlay:
            self._order = KeyOrder(overlay)
        return self._order

    def close(self) -> None:
        """Drop the overlay and release the files. A second call does nothing; every other use then raises."""
        if not self._closed:
            self._closed = True
            self.overlay = Ended(f"{self.name} is closed")
            self._set_sealed({})
            self._storage.close()

    def _place(self, append_time_s: int) -> None:
        assert self._retention_s is not None
        ends = self._storage.segments
        end_s = segment_end_s(append_time_s, self._retention_s)
        if not ends or end_s > ends[0]:
            self._storage.add_segment(end_s)
        self._segment_end_s = max(end_s, *ends) if ends else end_s

    def _check_placed(self) -> None:
        if self._segment_end_s < 0:
            raise UnitEnded(f"{self.name} has a retention: advance() must be told the append time before a write")

    def _check_forward(self, checkpoint: int) -> None:
        if self._closed:
            raise UnitEnded(f"{self.name} is closed")
        stored = self._storage.checkpoint
        if stored is not None and checkpoint < stored:
            raise ValueError(f"{self.name}: checkpoint {checkpoint} is behind the stored {stored}")


class Committed:
    """Committed values only, for readers outside the task (the web views): no overlay, no unit."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def get(self, key: bytes) -> bytes | None:
        return self._storage.get(key)

    def items(
        self, *, prefix: bytes = b"", start: bytes = b"", end: bytes | None = None, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """At most `limit` rows in key order. The next page starts at the last key with a zero byte behind it."""
        first, stop = key_range(prefix, start, end)
        return list(islice(merged(*self._storage.layers(first, stop)), limit))

    def approximate_count(self) -> int:
        """About how many keys there are: estimated, and after overwrites and deletes too high for a while."""
        return self._storage.approximate_count()
