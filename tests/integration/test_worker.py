"""`streamapp worker` as a process: what it says when it cannot start, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from signals import terminate

COMMAND = [sys.executable, "-m", "streamapp.cli", "worker"]
#: Seconds within which a worker that is asked to end has ended: its own bound, and room for a loaded machine.
ENDS_WITHIN_S = 60.0


def environment(path: Path, **settings: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("STREAMAPP_")}
    return plain | {f"STREAMAPP_{name}": value for name, value in settings.items()} | {"PYTHONPATH": str(path)}


def refused(*options: str, **settings: str) -> tuple[int, str]:
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [*COMMAND, *options], env=environment(root, **settings), capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in run.stderr
    return run.returncode, run.stderr


def test_a_broker_that_is_not_there_is_waited_for_and_then_named() -> None:
    began = time.monotonic()
    code, text = refused("--wait", "1", BROKER="127.0.0.1:1", STORE="memory")
    assert code == 1
    assert "error: Gave up connecting to Kafka at 127.0.0.1:1" in text
    assert time.monotonic() - began < 30


def test_bad_settings_are_named_all_at_once() -> None:
    code, text = refused(BROKER="nowhere", PARTITIONS="many", INSTNCE="w")
    assert code == 2
    for part in ("STREAMAPP_BROKER=nowhere", "STREAMAPP_PARTITIONS=many", "did you mean STREAMAPP_INSTANCE?"):
        assert part in text


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    code, text = refused(BROKER="127.0.0.1:1", DATADIR=str(in_the_way))
    assert code == 1
    assert f"The state directory {in_the_way}" in text


def test_an_app_that_is_none_of_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stock.py").write_text("import faust\napp = faust.App('stock')\n")
    monkeypatch.chdir(tmp_path)
    code, text = refused("--app", "stock", BROKER="127.0.0.1:1")
    assert code == 2
    assert "stock is no streamapp.App" in text


@pytest.mark.kafka
def test_sigterm_drains_and_ends_with_0(kafka: Any, topic_prefix: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        f"from streamapp import App\n"
        f"app = App('{topic_prefix}')\n"
        f"@app.agent(app.topic('{topic_prefix}-in', value_type=bytes))\n"
        f"async def ignore(stream):\n    async for _ in stream: pass\n"
    )
    settings = environment(Path(__file__).parents[2], BROKER=kafka.bootstrap, DATADIR=str(tmp_path / "state"))
    with subprocess.Popen([*COMMAND, "--app", "own"], env=settings, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:  # the pytest time-out bounds it
                lines.append(line.decode())
                if "ready after" in lines[-1]:
                    break
            assert "ready after" in lines[-1], "".join(lines)
            terminate(process)
            assert process.wait(ENDS_WITHIN_S) == 0, "".join(lines) + process.stderr.read().decode()
        finally:
            process.kill()
