"""Committed values in one RocksDB directory: a column family a segment, and the checkpoint in `default`.

A `WriteBatch` over column families is atomic, so values and checkpoint are stored together or not at all, and
dropping a column family drops its files without reading a key. A look-up that misses costs 0.4 to 0.7 us for one
segment and 0.9 to 2 us for three.

The write-ahead log is on and not synchronised. Kafka's changelog is what survives a lost machine, so a sync a
commit would buy nothing; but with the log a killed process loses nothing either (the kernel has it), opening
replays at most 32 MiB, and it costs nothing that could be measured (1.3 us a key with it and without). After a
power cut the log ends early: an older checkpoint with the values that belong to it, and the changelog brings the
rest.

What rocksdict does that has to be known here:

* opened with `options` alone, an existing database gets the column families' options from its files, without bloom
  filter and shared cache: misses become ten times slower. So every column family is named at every open.
* iterating with `items()` ends silently at a damaged block; `RdictIter.status()` must be asked.
* every iterator and column family handle keeps the database open, `LOCK` included, after `close()`. So rows are
  read in chunks and no iterator lives between two of them.
* every error is a bare `Exception` with RocksDB's text.

What RocksDB cannot notice: a MANIFEST cut exactly behind one of its records, where no log is recorded yet (right
after the store was made) or the last log was recorded too late. It then opens with a gap. No crash leaves such a
file, because the MANIFEST is synchronised before a log is removed; a damaged file system may. Of some 190 such
cuts all but one to three were noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rocksdict import ColumnFamily, DbClosedError, Rdict, WriteBatch

from streamapp.errors import ConfigurationError, StateCorrupted, StoreError, StreamAppError
from streamapp.state.options import SharedMemory
from streamapp.state.overlay import Change, UnitEnded
from streamapp.state.segments import FOREVER

_CHECKPOINT = b"checkpoint"
_CHUNK_ROWS = 512
_FAMILY = "until-"
_COUNT = "rocksdb.estimate-num-keys"

#: RocksDB's words for an error that means the files are not what was written; the others are the disk's.
_CORRUPT = ("Corruption", "No such file", "does not exist", "Column famil", "Invalid argument", "Not implemented")


def translated(error: Exception, name: str) -> StreamAppError | UnitEnded:
    """RocksDB's error by remedy."""
    if isinstance(error, DbClosedError):
        return UnitEnded(f"{name} is closed")
    text = str(error)
    if "LOCK" in text and "lock" in text:
        return ConfigurationError(f"{name} is open already ({text}). End the other process, or close it first.")
    if text.startswith(_CORRUPT) or "No such file" in text:
        return StateCorrupted(f"{name} is damaged: {text}. Wipe this store and restore it from its changelog.")
    return StoreError(
        f"The disk refused {name}: {text}. What was committed is in Kafka; make room or mend the disk, and start again."
    )


class RocksStorage:
    """A `Storage` in a directory of its own. Opening raises `StateCorrupted`, `StoreError` or `ConfigurationError`."""

    def __init__(self, path: Path, name: str, memory: SharedMemory, *, create: bool, segmented: bool) -> None:
        self._path = path
        self._name = name
        self._memory = memory
        self._families: dict[int, Rdict] = {}
        self._handles: dict[int, ColumnFamily] = {}
        #: The look-up of each segment, newest first; of one key, or of a list of them.
        self._gets: list[Callable[[Any], Any]] = []
        self.segments: list[int] = []
        self.checkpoint: int | None = None
        names = [_family(FOREVER)] if create and not segmented else []
        try:
            if not create:
                names = [family for family in Rdict.list_cf(str(path)) if family != "default"]
        except Exception as error:
            raise translated(error, name) from error
        self.segments = sorted((_end_s(family, name) for family in names), reverse=True)
        if not create and (FOREVER in self.segments) == segmented:
            raise StateCorrupted(f"{name} was kept with other segments. Wipe this store and restore it.")
        try:
            self._db = self._opened(names, create=create)
        except Exception as error:
            raise translated(error, name) from error
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def _opened(self, names: list[str], *, create: bool) -> Rdict:
        families = {name: self._memory.family_options() for name in names}
        families["default"] = self._memory.checkpoint_options()
        return Rdict(str(self._path), self._memory.database_options(create=create), families)

    def _load(self) -> None:
        try:
            for end_s in self.segments:
                self._attach(end_s)
            stored = self._db.get(_CHECKPOINT)
        except Exception as error:
            raise translated(error, self._name) from error
        if stored is not None:
            self.checkpoint = int.from_bytes(stored, "big")
        self._refresh()

    def _attach(self, end_s: int) -> None:
        self._families[end_s] = self._db.get_column_family(_family(end_s))
        self._handles[end_s] = self._db.get_column_family_handle(_family(end_s))
        self._memory.opened(1)

    def _refresh(self) -> None:
        self._gets = [self._families[end_s].get for end_s in self.segments]

    @property
    def get(self) -> Callable[[bytes], bytes | None]:
        return self._get

    def _get(self, key: bytes) -> bytes | None:
        try:
            for get in self._gets:
                value: bytes | None = get(key)
                if value is not None:
                    return value
        except Exception as error:
            raise translated(error, self._name) from error
        return None

    def get_all(self, keys: list[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = [None] * len(keys)
        try:
            places: Iterable[int] = range(len(keys))
            for get in self._gets:
                places = [place for place in places if found[place] is None]
                for place, value in zip(places, get([keys[place] for place in places]), strict=True):
                    found[place] = value
        except Exception as error:
            raise translated(error, self._name) from error
        return found

    def layers(self, start: bytes, stop: bytes | None) -> list[Iterator[tuple[bytes, bytes]]]:
        return [self._rows(self._families[end_s], start, stop) for end_s in self.segments]

    def _rows(self, family: Rdict, start: bytes, stop: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        while True:
            try:
                chunk = _chunk(family, start, stop)
            except Exception as error:
                raise translated(error, self._name) from error
            yield from chunk
            if len(chunk) < _CHUNK_ROWS:
                return
            start = chunk[-1][0] + b"\0"

    def write(self, changes: Iterable[Change], checkpoint: int | None) -> None:
        batch = WriteBatch(raw_mode=True)
        if checkpoint is not None:
            batch.put(_CHECKPOINT, checkpoint.to_bytes(8, "big"))
        try:
            self._fill(batch, changes)
            self._db.write(batch)
        except Exception as error:
            raise translated(error, self._name) from error
        if checkpoint is not None:
            self.checkpoint = checkpoint

    def _fill(self, batch: WriteBatch, changes: Iterable[Change]) -> None:
        if self.segments:
            batch.set_default_column_family(self._handles[self.segments[0]])
        put, delete, handles = batch.put, batch.delete, list(self._handles.values())
        for key, value in changes:
            if value is not None:
                put(key, value)
            else:
                for handle in handles:
                    delete(key, handle)

    def add_segment(self, end_s: int) -> None:
        try:
            self._db.create_column_family(_family(end_s), self._memory.family_options())
            self._attach(end_s)
        except Exception as error:
            raise translated(error, self._name) from error
        self.segments.insert(0, end_s)
        self._refresh()

    def drop_segment(self, end_s: int) -> None:
        self.segments.remove(end_s)
        self._refresh()
        del self._families[end_s], self._handles[end_s]
        self._memory.opened(-1)
        try:
            self._db.drop_column_family(_family(end_s))
        except Exception as error:
            raise translated(error, self._name) from error

    def approximate_count(self) -> int:
        try:
            return sum(family.property_int_value(_COUNT) or 0 for family in self._families.values())
        except Exception as error:
            raise translated(error, self._name) from error

    def close(self) -> None:
        """Flush what memory holds and let go of the directory.

        A disk that refuses the flush is no error here: the write-ahead log holds every commit. The checkpoint's
        column family comes last, so that values are never older than it.
        """
        self._memory.opened(-len(self._handles))
        self._handles.clear()
        for database in (*self._families.values(), self._db):
            try:
                database.close()
            except DbClosedError:
                continue
            except Exception as error:
                if not isinstance(translated(error, self._name), StoreError | StateCorrupted):
                    raise


def _family(end_s: int) -> str:
    return f"{_FAMILY}{end_s}"


def _end_s(family: str, name: str) -> int:
    end = family.removeprefix(_FAMILY)
    if end == family or not end.isdigit():
        raise StateCorrupted(f"{name} has a part {family!r} that is not ours. Wipe this store and restore it.")
    return int(end)


def _chunk(family: Rdict, start: bytes, stop: bytes | None) -> list[tuple[bytes, bytes]]:
    """The next rows. The iterator, which keeps the database open, is gone on return and on an error."""
    rows: list[tuple[bytes, bytes]] = []
    cursor = family.iter()
    try:
        cursor.seek(start)
        while cursor.valid() and len(rows) < _CHUNK_ROWS:
            key = cursor.key()
            if stop is not None and key >= stop:
                return rows
            rows.append((key, cursor.value()))
            cursor.next()
        cursor.status()
    finally:
        del cursor  # else an exception's traceback would keep it
    return rows
