"""The chapter on testing, followed literally: its files are written into an empty folder, its commands run there.

Each command's expected lines are the block behind it; that the planted bug is found is one of them.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

CHAPTER = Path(__file__).parents[2] / "docs" / "testing.md"
BOUND_S = 300


class Block(NamedTuple):
    """A fenced block: its language and its text."""

    language: str
    text: str


def blocks() -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", CHAPTER.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(*block) for block in found]


def run(command: str, folder: Path) -> str:
    program, *arguments = shlex.split(command)
    assert program == "pytest", f"the chapter runs {program}, which this test does not know"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMAPP_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=BOUND_S,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_the_chapter_works_as_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    said, runs = "", 0
    for language, text in blocks():
        if language in ("python", "ini"):
            first = text.splitlines()[0]
            assert first.startswith("# "), f"this block says no file name: {first}"
            (folder / first.removeprefix("# ")).write_text(text)
        elif language == "sh":
            said = "".join(run(command, folder) for command in text.splitlines())
            runs += 1
        elif language == "text":
            assert all(line in said for line in text.splitlines()), f"expected:\n{text}\nsaid:\n{said}"
            assert "warning" not in said, said
    assert runs == 5
    assert any("crashes changed what happened" in block.text for block in blocks()), "the planted bug is to be found"
