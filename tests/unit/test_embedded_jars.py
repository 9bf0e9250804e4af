"""The pinned jars: what is verified, what is fetched again, what a person is told when it cannot be had.

The repository is a real HTTP server on loopback, named to jgo in its own settings file.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamapp.embedded import jars
from streamapp.embedded.jars import Jar
from streamapp.errors import ConfigurationError, Unavailable

CONTENT = {f"jar-{number}": bytes([number]) * (50_000 + number) for number in range(4)}


class Repository:
    """A Maven repository of four jars; `spoilt` ones have other bytes than those that were pinned."""

    def __init__(self, home: Path) -> None:
        self.asked: Counter[str] = Counter()
        self.spoilt: set[str] = set()
        repository = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        settings = home / ".config" / "jgo.conf"
        settings.parent.mkdir(parents=True)
        settings.write_text(f"[repositories]\nhere = http://127.0.0.1:{self.server.server_port}\n")

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.rpartition("/")[2]
        artifact = name.split("-1.0")[0]
        self.asked[name] += 1
        content = CONTENT.get(artifact)
        if content is None:
            request.send_error(404)
            return
        if artifact in self.spoilt:
            content = content[:-1] + b"!"
        if name.endswith(".sha1"):
            content = hashlib.sha1(content, usedforsecurity=False).hexdigest().encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(jars, "pinned", lambda: WANTED)
    made = Repository(tmp_path / "home")
    yield made
    made.close()


WANTED = tuple(
    Jar(hashlib.sha256(content).hexdigest(), len(content), f"org.example:{name}:1.0")
    for name, content in CONTENT.items()
)


def test_every_pinned_jar_has_a_hash_a_size_and_a_name_of_its_own() -> None:
    pinned = jars.pinned()
    assert len({jar.name for jar in pinned}) == len(pinned) > 40
    assert all(len(bytes.fromhex(jar.sha256)) == 32 and jar.size > 1000 for jar in pinned)
    assert int(jars.version().split(".")[0]) >= 4


def test_cold_cache_is_filled_with_progress_and_warm_cache_asks_nobody(repository: Repository, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    paths = jars.ensure(tmp_path / "cache", lambda done, total: seen.append((done, total)))
    total = sum(map(len, CONTENT.values()))
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    assert seen[-1] == (total, total) and seen == sorted(seen)
    repository.asked.clear()
    assert jars.ensure(tmp_path / "cache") == paths
    assert not repository.asked
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {*(jar.name for jar in WANTED), "lock"}


@pytest.mark.parametrize("damage", [lambda c: c[:-10], lambda c: c[:9] + b"X" + c[10:], lambda c: b""])
def test_a_damaged_jar_is_fetched_again_and_no_other(repository: Repository, tmp_path: Path, damage: object) -> None:
    victim = jars.ensure(tmp_path / "cache")[2]
    victim.write_bytes(damage(victim.read_bytes()))  # type: ignore[operator]
    repository.asked.clear()
    jars.ensure(tmp_path / "cache")
    assert victim.read_bytes() == CONTENT["jar-2"]
    assert {name for name in repository.asked if name.endswith(".jar")} == {victim.name}


def test_two_at_once_fetch_each_jar_once(repository: Repository, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: jars.ensure(tmp_path / "cache"), range(2))
    assert first == second and not jars.missing(WANTED, tmp_path / "cache")
    assert all(count == 1 for count in repository.asked.values()) and repository.asked


def test_a_jar_with_another_hash_is_never_kept(repository: Repository, tmp_path: Path) -> None:
    repository.spoilt.add("jar-1")
    with pytest.raises(Unavailable, match=r"org\.example:jar-1:1\.0: its SHA-256 is not the pinned"):
        jars.ensure(tmp_path / "cache")
    assert not (tmp_path / "cache" / "jar-1-1.0.jar").exists()


def test_what_arrived_is_kept_when_the_repository_goes_away(repository: Repository, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    paths = jars.ensure(cache)
    paths[3].unlink()
    repository.close()
    with pytest.raises(Unavailable, match=r"(?s)jar-3.*refused.*3 of 4 are in .* kept.*run the same command again"):
        jars.ensure(cache)
    assert all(path.exists() for path in paths[:3])


def test_cache_that_cannot_be_written(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=f"{jars.CACHE_VARIABLE}=DIR"):
        jars.ensure(tmp_path / "file" / "cache")
