"""The jars of Apache Kafka: pinned by hash, fetched once with jgo, verified every time.

`jars.txt` names each jar with its size and SHA-256. They are kept in the user's cache directory, so that a second
project, or a machine that lost its network, starts at once. Hashing all 43 MiB takes less than a tenth of a second,
so nothing cheaper than the hash is trusted: a jar that was cut short or altered is fetched again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import platformdirs

from streamapp.errors import ConfigurationError, StoreError, Unavailable

#: Names another cache directory, for machines whose home is small or read-only.
CACHE_VARIABLE = "EMBEDDED_CACHE"

#: Told how many bytes of how many have arrived; called from several threads, one at a time.
OnProgress = Callable[[int, int], None]

_WORKERS = 4
_TRIES = 3
#: A download that has not ended by then is given up; what arrived is kept.
_DEADLINE_S = 900.0


class Jar(NamedTuple):
    """One line of `jars.txt`."""

    sha256: str
    size: int
    coordinates: str

    @property
    def name(self) -> str:
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact}-{version}.jar"


def pinned() -> tuple[Jar, ...]:
    """Every jar the broker runs with."""
    text = resources.files("streamapp.embedded").joinpath("jars.txt").read_text()
    return parsed(text)


def version() -> str:
    """Kafka's version, as the jars say it."""
    return next(jar.coordinates.split(":")[2] for jar in pinned() if ":kafka_2.13:" in jar.coordinates)


def cache_directory() -> Path:
    """Where the jars are: `EMBEDDED_CACHE`, or the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return (Path(chosen) if chosen else platformdirs.user_cache_path("streamapp")) / f"kafka-{version()}"


def is_intact(jar: Jar, path: Path) -> bool:
    """Whether the file is there and is this jar, byte for byte."""
    try:
        if path.stat().st_size != jar.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except OSError:
        return False


def missing(jars: tuple[Jar, ...], directory: Path) -> list[Jar]:
    """Those of the jars that must be fetched: absent, cut short or altered."""
    return [jar for jar in jars if not is_intact(jar, directory / jar.name)]


def parsed(text: str) -> tuple[Jar, ...]:
    """The jars of a list like `jars.txt`."""
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return tuple(Jar(sha256, int(size), coordinates) for sha256, size, coordinates in lines)


def ensure(
    directory: Path | None = None, on_progress: OnProgress | None = None, jars: tuple[Jar, ...] | None = None
) -> list[Path]:
    """The paths of all jars (the broker's, or those given), every one verified; what is missing is fetched first.

    Raises `Unavailable` when a jar cannot be had (those that arrived are kept), `StoreError` when the disk is full,
    `ConfigurationError` when the cache cannot be written. Two processes may call it at once: one fetches, the other
    waits for it.
    """
    directory = directory or cache_directory()
    jars = pinned() if jars is None else jars
    if missing(jars, directory):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with _locked(directory / "lock"):
                _fetch(jars, directory, on_progress)
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                size_mib = sum(jar.size for jar in jars) >> 20
                raise StoreError(
                    f"The disk is full: Kafka's jars ({size_mib} MiB) do not fit into {directory}. Those that arrived "
                    "are kept."
                    f"\nMake room, or name another directory: {CACHE_VARIABLE}=DIR"
                ) from exc
            raise ConfigurationError(
                f"Kafka's jars cannot be kept in {directory}: {exc.strerror or exc}."
                f"\nMake it writable, or name another directory: {CACHE_VARIABLE}=DIR"
            ) from exc
    return [directory / jar.name for jar in jars]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among all processes that fetch into this directory, within the deadline."""
    give_up = time.monotonic() + _DEADLINE_S
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise Unavailable(
                        f"Another process has been fetching Kafka's jars into {path.parent} for {_DEADLINE_S:.0f} s."
                        "\nEnd it, and run the same command again."
                    ) from None
                time.sleep(0.1)
        yield


def _fetch(jars: tuple[Jar, ...], directory: Path, on_progress: OnProgress | None) -> None:
    """Fetch those that are missing, several at once. The first that cannot be had ends it; what arrived stays."""
    absent = missing(jars, directory)
    if not absent:
        return
    received = _Received(sum(jar.size for jar in absent), on_progress)
    with (
        tempfile.TemporaryDirectory(prefix="partial-", dir=directory) as staging,
        ThreadPoolExecutor(_WORKERS, thread_name_prefix="jars") as pool,
    ):
        futures = [pool.submit(_fetch_one, jar, directory, Path(staging), received) for jar in absent]
        try:
            for future in futures:
                future.result()
        except BaseException as exc:
            received.stop()  # the others end at their next chunk
            pool.shutdown(cancel_futures=True)
            if isinstance(exc, _Undelivered):
                left = len(missing(jars, directory))
                raise Unavailable(
                    f"Kafka's jars could not be fetched: {exc}"
                    f"\n{len(jars) - left} of {len(jars)} are in {directory} and are kept."
                    "\nCheck the network (a proxy is taken from HTTPS_PROXY, another repository from jgo's settings)"
                    " and run the same command again. Once all are there, no network is needed."
                ) from exc
            raise


class _Undelivered(Exception):
    """A jar did not arrive, or is not the one that was pinned."""


class _Received:
    """Bytes that arrived so far, over all threads; also how a fetch is called off."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._total = total
        self._so_far = 0
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._stopped = False
        self._deadline = time.monotonic() + _DEADLINE_S

    def stop(self) -> None:
        self._stopped = True

    def add(self, count: int) -> None:
        if self._stopped:
            raise _Undelivered("called off")
        if time.monotonic() > self._deadline:
            raise _Undelivered(f"it took more than {_DEADLINE_S:.0f} s")
        with self._lock:
            self._so_far = min(self._so_far + count, self._total)
            if self._on_progress is not None:
                self._on_progress(self._so_far, self._total)


def _fetch_one(jar: Jar, directory: Path, staging: Path, received: _Received) -> None:
    """Fetch one jar beside its place, verify it, and move it there in one step."""
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(0.5 * attempt)
        try:
            path = _download(jar, staging / f"{jar.name}-{attempt}", received)
        except _Undelivered:
            raise
        except OSError as exc:  # jgo speaks with `requests`, whose errors are OSErrors
            if exc.errno == errno.ENOSPC:
                raise
            problem = _network_problem(exc)
        except RuntimeError as exc:  # jgo's own: absent from the repository, or not the checksum published there
            problem = str(exc)
        else:
            if is_intact(jar, path):
                path.replace(directory / jar.name)
                return
            problem = f"its SHA-256 is not the pinned {jar.sha256[:12]}…; it was thrown away"
    raise _Undelivered(f"{jar.coordinates}: {problem}")


def _download(jar: Jar, repository: Path, received: _Received) -> Path:
    from jgo.config import GlobalSettings  # takes 0.2 s to import, which a warm cache need not pay
    from jgo.maven import MavenContext, PythonResolver

    @contextlib.contextmanager
    def report(filename: str, size: int) -> Iterator[Callable[[int], None]]:
        yield received.add

    context = MavenContext(
        resolver=PythonResolver(progress_callback=report),
        repo_cache=repository,
        remote_repos=GlobalSettings.load().repositories or None,
    )
    return Path(context.create_dependency(jar.coordinates).artifact.resolve())


def _network_problem(exc: OSError) -> str:
    """The reason at the bottom of a chain of network errors, in one line."""
    cause: BaseException = exc
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
