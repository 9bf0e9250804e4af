"""Pages whose rows name their tests: each test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = ("positions.md", "surroundings.md")
_NAMED = re.compile(r"`(?:[\w/]+\.py::)?(test_\w+)(?:\[[^\]]*\])?`")


@pytest.fixture(scope="module")
def defined() -> set[str]:
    sources = (path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    return {name for source in sources for name in re.findall(r"^\s*(?:async )?def (test_\w+)", source, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_is_there(page: str, defined: set[str]) -> None:
    named = _NAMED.findall((REPOSITORY / "docs" / page).read_text())
    assert named
    assert not set(named) - defined


@pytest.mark.parametrize("page", PAGES)
def test_every_row_names_its_test(page: str) -> None:
    tables = re.split(r"\n\n", (REPOSITORY / "docs" / page).read_text())
    rows = [
        row
        for table in tables
        if table.startswith("|") and "test" in table.splitlines()[0].split("|")[-2]
        for row in table.splitlines()[2:]
    ]
    assert rows
    assert not [row for row in rows if not _NAMED.search(row) and ".py`" not in row]
