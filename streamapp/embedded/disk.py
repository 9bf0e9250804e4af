"""What the disk of a data directory refuses, said in sentences; and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from streamapp.errors import ConfigurationError, StoreError

#: With less than this a server crashes instead of saying so (Kafka's index files are mapped into memory).
SPACE_NEEDED_MIB = 128


def require_space(directory: Path) -> None:
    """Raises `StoreError` where a server would meet the end of the disk as soon as it starts."""
    free_mib = shutil.disk_usage(directory).free >> 20
    if free_mib < SPACE_NEEDED_MIB:
        raise StoreError(
            f"The disk of {directory} is full: {free_mib} MiB are free, {SPACE_NEEDED_MIB} are needed to start."
            "\nNothing was started or changed. Make room, or name another directory: --data-dir DIR"
        )


@contextlib.contextmanager
def refusals(directory: Path) -> Iterator[None]:
    """Turns what the file system refuses into an error of ours."""
    try:
        yield
    except OSError as exc:
        raise _refused(directory, exc) from exc


def _refused(directory: Path, exc: OSError) -> ConfigurationError | StoreError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"The disk of {directory} is full. What was written before is kept."
            "\nMake room, or name another directory (--data-dir DIR), and run the same command again."
        )
    where = f" ({exc.filename})" if exc.filename else ""
    return ConfigurationError(
        f"The data directory {directory} cannot be used: {exc.strerror or exc}{where}. Nothing was started."
        "\nMake it a directory you may write, or name another one: --data-dir DIR"
    )


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader, and a crash, find the old content or the new one, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.unlink(missing_ok=True)
        partial.touch(mode)
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
