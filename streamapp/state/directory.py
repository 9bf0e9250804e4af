"""The worker's state directory: one owner, one application, a directory a partition of each table.

<state directory>/LOCK                       flock; the owner's pid and host, for the message to others
<state directory>/worker.json                format, application, and this worker's own id
<state directory>/<table>/<partition>/       one RocksDB, and identity.json beside its files
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import uuid
from pathlib import Path

from streamapp.errors import ConfigurationError, StoreError
from streamapp.state.identity import FORMAT, StoreIdentity
from streamapp.state.options import SharedMemory
from streamapp.state.partition import TablePartition
from streamapp.state.rocks import RocksStorage

_LOCK = "LOCK"
_WORKER = "worker.json"
_IDENTITY = "identity.json"
_WIPED = ".wiped"


class DirectoryInUse(ConfigurationError):
    """Another process works in this state directory. A worker without INSTANCE may take another directory."""


class StateDirectory:
    """The partitions of one worker below `path`, locked from construction to `close()`.

    Raises `DirectoryInUse` when another process (or another object of this one) holds it, `ConfigurationError` when
    it is another application's or no state directory at all, and `StoreError` when the disk refuses.
    """

    def __init__(self, path: Path, app: str, memory: SharedMemory | None = None) -> None:
        self.path = path
        self.app = app
        self._memory = memory or SharedMemory()
        self._partitions: dict[tuple[str, int], TablePartition] = {}
        try:
            self._lock: int | None = self._locked()
            try:
                #: Made once with the directory: the name of a worker that was given none.
                self.worker_id = self._checked_worker()
            except BaseException:
                self._unlock()
                raise
        except OSError as error:
            raise StoreError(f"The state directory {path} cannot be used: {error}. Nothing was changed.") from error

    def _locked(self) -> int:
        _check_ours(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 200).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise DirectoryInUse(
                f"The state directory {self.path} is in use by {holder}. End that one, or give this worker "
                "another STREAMAPP_INSTANCE or STREAMAPP_DATADIR."
            ) from None
        except BaseException:
            os.close(lock)
            raise
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        return lock

    def _checked_worker(self) -> str:
        file = self.path / _WORKER
        if not file.exists():
            worker_id = uuid.uuid4().hex
            _write_durably(file, json.dumps({"format": FORMAT, "app": self.app, "worker": worker_id}))
            return worker_id
        try:
            stored = json.loads(file.read_bytes())
            app, worker_id = stored["app"], str(stored["worker"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{file} is damaged ({error!r}). Move {self.path} away: its stores come back from their changelogs."
            ) from error
        if app != self.app:
            raise ConfigurationError(
                f"The state directory {self.path} belongs to the application {app!r}, not {self.app!r}. "
                "Nothing was changed. Mend STREAMAPP_ID or STREAMAPP_DATADIR."
            )
        return worker_id

    def open_partition(self, identity: StoreIdentity, retention_s: int | None = None) -> TablePartition:
        """The store of `identity`, made when there is none. After `StateCorrupted`: `wipe()`, and open again."""
        if self._lock is None:
            raise ConfigurationError(f"The state directory {self.path} is closed.")
        key = (identity.table, identity.partition)
        if key in self._partitions and not self._partitions[key].closed:
            raise ConfigurationError(f"{identity.name} is open already; close it first.")
        path = self._partition_path(*key)
        try:
            shutil.rmtree(path.with_suffix(_WIPED), ignore_errors=True)
            create = self._is_new(path, identity)
        except OSError as error:
            raise StoreError(f"{path} cannot be used: {error}. Nothing was changed.") from error
        storage = RocksStorage(path, identity.name, self._memory, create=create, segmented=retention_s is not None)
        self._partitions[key] = TablePartition(identity.name, storage, retention_s)
        return self._partitions[key]

    def _is_new(self, path: Path, identity: StoreIdentity) -> bool:
        """Whether the store is to be made: claim its directory then. Else it is ours, or this raises."""
        file = path / _IDENTITY
        if not file.exists():
            if path.exists() and any(entry.suffix != ".new" for entry in path.iterdir()):
                raise ConfigurationError(
                    f"{path} holds files and no {_IDENTITY}: not a store of ours. Nothing was changed. Move it away."
                )
            path.mkdir(parents=True, exist_ok=True)
            _write_durably(file, identity.to_json())
            return True
        identity.check_same(StoreIdentity.from_json(file.read_bytes(), str(file)), str(path))
        return False

    def wipe(self, table: str, partition: int) -> None:
        """Remove this partition's files; close it first. Cut short, it has removed the store all the same."""
        opened = self._partitions.get((table, partition))
        if opened is not None and not opened.closed:
            raise ConfigurationError(f"{opened.name} is open; close it before it is wiped.")
        path = self._partition_path(table, partition)
        wiped = path.with_suffix(_WIPED)
        try:
            shutil.rmtree(wiped, ignore_errors=True)
            if path.exists():
                path.rename(wiped)
                shutil.rmtree(wiped, ignore_errors=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be wiped: {error}.") from error

    def close(self) -> None:
        """Close every partition and give the directory free. A second call does nothing."""
        try:
            for partition in self._partitions.values():
                partition.close()
        finally:
            self._partitions.clear()
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _partition_path(self, table: str, partition: int) -> Path:
        return self.path / table / str(partition)


def _check_ours(path: Path) -> None:
    """A directory with files and without ours in it is somebody's: nothing is written into it."""
    if path.exists() and not path.is_dir():
        raise ConfigurationError(f"The state directory {path} is a file. Mend STREAMAPP_DATADIR.")
    if path.is_dir():
        names = {entry.name for entry in path.iterdir()} - {_LOCK, _WORKER + ".new"}
        if names and _WORKER not in names:
            raise ConfigurationError(
                f"{path} holds files and no {_WORKER}: it is no state directory. Nothing was changed. "
                "Mend STREAMAPP_DATADIR, or move what is there away."
            )


def _write_durably(file: Path, text: str) -> None:
    """The whole file or none of it, also after a power cut."""
    new = file.with_name(file.name + ".new")
    with new.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(file)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
