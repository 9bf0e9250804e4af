"""The compiled modules and the Python they come from: used as a whole or not at all, and equal byte by byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from streamapp import native

REPOSITORY = Path(__file__).parents[2]
#: Tests of what is compiled that are quick; each passes either way.
TWINS = ("eos_batches", "eos_commit", "inbox_marks", "inbox_time", "commit_schedule", "record_schema", "state_model")
#: What a machine needs to compile.
CAN_COMPILE = shutil.which("cc") is not None and Path(sysconfig.get_path("include"), "Python.h").exists()


def run(*command: str, pure: bool) -> str:
    """What a process prints that runs the Python itself, or not."""
    answer = subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "STREAMAPP_PURE": "1" if pure else "0"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert answer.returncode == 0, (
        f"STREAMAPP_PURE={int(pure)} {command}\n{answer.stdout[-4000:]}{answer.stderr[-4000:]}"
    )
    return answer.stdout


@pytest.mark.skipif(not CAN_COMPILE, reason="no C compiler, or no headers of Python: the Python itself runs")
def test_what_is_tested_here_is_compiled() -> None:
    if os.environ.get("STREAMAPP_PURE", "0") == "0":
        assert native.reason is None, f"{native.reason}; `make setup` compiles it"


def test_the_python_runs_when_it_is_asked_for() -> None:
    say = "import streamapp.engine.task as it; from streamapp import native; print(it.__file__, native.reason)"
    assert "task.py STREAMAPP_PURE is set" in run("-c", say, pure=True)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_both_write_the_same_bytes(seed: str) -> None:
    told = {pure: run("tests/support/twin.py", seed, pure=pure).split() for pure in (False, True)}
    assert told[True][0] == "Python"
    assert told[False][0] == ("Python" if native.unfit() else "compiled")
    assert told[False][1] == told[True][1], f"repeat: STREAMAPP_PURE=0|1 python tests/support/twin.py {seed}"


def test_the_tests_of_the_compiled_pass_for_the_python() -> None:
    files = [f"tests/unit/test_{name}.py" for name in TWINS]
    assert "passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *files, pure=True)


def test_a_source_that_changed_or_was_never_compiled_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "ROOT", tmp_path)
    for name in native.MODULES:
        for path in (native.source(name), native.compiled(name)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert native.unfit() == f"{native.MODULES[0]} has changed since it was compiled"
    native.record()
    assert native.unfit() is None
    unit = "streamapp.state.unit"
    native.compiled(unit).unlink()
    assert native.unfit() == f"{unit} is not compiled"
    native.compiled(unit).touch()
    native.source(unit).touch()  # newer, and the same
    assert native.unfit() is None
    native.source(unit).with_suffix(".pxd").write_text("cdef class Unit: ...")
    assert native.unfit() == f"{unit} has changed since it was compiled"
    native.record_file().write_bytes(b"\xff")
    assert native.unfit() == f"{native.MODULES[0]} has changed since it was compiled"
