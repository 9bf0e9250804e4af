"""The documentation's own promises: generated tables are current, links lead somewhere, rooms exist."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
#: Pages without the words that the glossary asks to avoid.
CLEAN = (
    "contract.md",
    "architecture.md",
    "decisions.md",
    "transactions.md",
    "README.md",
    "adr/0028-commit-cycle-as-a-state-table.md",
    "adr/0030-service-beside-the-platform.md",
)
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")])


def test_the_tables_of_the_contract_are_those_of_the_code() -> None:
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY)
    assert ended.returncode == 0, ended.stderr


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name} links to {link}: {target.name} has no such title"


def test_every_page_is_in_the_index() -> None:
    listed = {(DOCS / link.partition("#")[0]).resolve() for link in links(DOCS / "README.md")}
    assert {page for page in DOCS.glob("*.md") if page.name != "README.md"} <= listed


def test_every_decision_record_is_listed() -> None:
    listed = {(DOCS / "adr" / link).resolve() for link in links(DOCS / "adr" / "README.md")}
    assert {page for page in (DOCS / "adr").glob("*.md") if page.name != "README.md"} <= listed


def test_the_rooms_of_the_architecture_page_are_there() -> None:
    named = re.findall(r"`((?:streamapp|tests)/[\w/]+\.py)`", (DOCS / "architecture.md").read_text())
    assert len([room for room in named if room.startswith("streamapp/")]) >= 20
    assert [room for room in named if not (REPOSITORY / room).exists()] == []


def test_every_decision_that_the_code_cites_is_on_the_page() -> None:
    numbers = set(re.findall(r"(?m)^(\d+)\. \*\*", (DOCS / "decisions.md").read_text()))
    for file in sorted((REPOSITORY / "streamapp").rglob("*.py")):
        for cited in re.findall(r"decision (\d+)", file.read_text()):
            assert cited in numbers, f"{file.name} cites decision {cited}"


def test_clean_pages_stay_clean() -> None:
    table = (DOCS / "glossary.md").read_text().partition("## Words to avoid")[2]
    avoided = re.findall(r"(?m)^\| ([a-z ]+) \| ", table)[1:]
    assert len(avoided) >= 10
    for page in [*(DOCS / name for name in CLEAN), REPOSITORY / "CONTRIBUTING.md"]:
        for number, line in enumerate(page.read_text().splitlines(), 1):
            for word in avoided:
                assert not re.search(rf"\b{word}s?\b", line), f"{page.name}:{number} says {word!r}: {line.strip()}"
