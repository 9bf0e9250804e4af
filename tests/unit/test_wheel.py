"""The wheel that `make wheel` builds: with the compiled modules in it, and used where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from streamapp import native

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation")
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(directory), str(REPOSITORY)]
    subprocess.run(command, check=True, timeout=200)
    (built,) = directory.iterdir()
    return built


@pytest.mark.skipif(native.unfit() is not None, reason="nothing is compiled here, so the wheel is the Python itself")
def test_the_wheel_has_what_is_compiled_and_it_runs_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    assert "none-any" not in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    wanted = [*(native.compiled(name) for name in native.MODULES), native.record_file()]
    assert {f"streamapp/{path.relative_to(native.ROOT).as_posix()}" for path in wanted} <= names
    # Unpacked, every file is as old as the unpacking, and there is no compiler to be found.
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PATH": "/nonexistent", "STREAMAPP_PURE": "0"}
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import streamapp.engine.task as task, streamapp.native as n; print(task.__file__, n.reason)",
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    assert told == [str(tmp_path / native.compiled("streamapp.engine.task").relative_to(REPOSITORY)), "None"]
