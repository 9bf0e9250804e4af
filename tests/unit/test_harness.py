"""What the tests' own tools promise: they race with nothing that they watch, and print nothing of their own."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient

from campaign import segments
from streamapp.embedded import ports

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from signals import catches, terminate

_BATCH = struct.Struct(">qiibIhiqqqhii")


def segment(directory: Path, name: str = "0.log") -> Path:
    """A partition's segment with one batch of a transaction, without records."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_bytes(_BATCH.pack(0, _BATCH.size - 12, 0, 2, 0, 0x10, 0, 7, 7, 1, 0, 0, 0))
    return directory / name


@pytest.mark.parametrize("gone", ["the partition", "a segment", "all of it"])
def test_a_log_is_read_while_the_broker_deletes(tmp_path: Path, gone: str) -> None:
    """Kafka deletes the topics of the shot before, when it likes."""
    segment(tmp_path / "a-0")
    segment(tmp_path / "b-0")
    later = segment(tmp_path / "b-0", "1.log")
    segment(tmp_path / "c-0")
    found = segments.markers(tmp_path)
    seen = [next(found).partition for _ in range(2)]
    match gone:
        case "the partition":
            shutil.rmtree(tmp_path / "b-0")
        case "a segment":
            later.unlink()
        case _:
            shutil.rmtree(tmp_path)
    seen += [it.partition for it in found]
    assert seen == ["a-0", "b-0", *(["c-0"] if gone != "all of it" else [])]


_SLOW = """
import signal, sys, time
time.sleep(0.5)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells which signals a process handles")
def test_sigterm_waits_until_a_process_has_its_handler() -> None:
    with subprocess.Popen([sys.executable, "-c", _SLOW]) as process:
        try:
            terminate(process)
            assert process.wait(60) == 3
            terminate(process)  # it has ended: nothing happens
        finally:
            process.kill()


def test_which_signals_this_process_handles() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        assert catches(os.getpid(), signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        assert not catches(os.getpid(), signal.SIGUSR1) or sys.platform != "linux"
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("client", [AdminClient, Producer, lambda config: Consumer({**config, "group.id": "none"})])
def test_a_client_that_reaches_no_broker_prints_nothing(
    client: Callable[[Any], Any], capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[KafkaError] = []
    made = client({"bootstrap.servers": f"127.0.0.1:{ports.any_free()}", "error_cb": told.append})
    give_up = time.monotonic() + 30
    while not told:  # its log has it before the callback
        assert time.monotonic() < give_up, "it has noticed nothing"
        made.poll(0.1)
    assert capfd.readouterr().err == ""
