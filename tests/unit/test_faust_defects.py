"""docs/faust-defects.md claims nothing without a test: every test it names exists, and every line names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "docs" / "faust-defects.md").read_text()
FILES = dict(re.findall(r"\*\*(\w+)\*\* `(tests/\S+\.py)`", TEXT))
LINES = [
    line for line in TEXT.splitlines() if line.startswith("|") and "---" not in line and "stock Faust |" not in line
]


def test_every_line_names_a_test_that_exists() -> None:
    assert len(LINES) > 30
    for line in LINES:
        named = re.findall(r"(\w+)::(test_\w+)", line)
        assert named, line
        for short, name in named:
            tree = ast.parse((REPOSITORY / FILES[short]).read_text())
            found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert name in found, f"{short}::{name}"
