"""The shape of the tree: no import circles, no folder that holds too much, and a driver that is not deep."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import grimp

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "streamapp"
#: Largest part of the code, in lines, that may lie in one folder.
FOLDER_SHARE_MAX = 0.14
#: Most modules that import one another in a row within a room of `driver/`.
DRIVER_LEVELS_MAX = 5


@cache
def imports() -> dict[str, set[str]]:
    """Each module of the package -> the modules of it that it imports."""
    graph = grimp.build_graph("streamapp", cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = imports()
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            circle = " -> ".join([*way[way.index(module) :], module])
            raise AssertionError(f"a circle of imports: {circle}")
        if module not in done:
            for imported in sorted(graph.get(module, ())):
                visit(imported, [*way, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])


def test_no_folder_holds_too_much() -> None:
    lines: dict[Path, int] = {}
    for file in PACKAGE.rglob("*.py"):
        lines[file.parent] = lines.get(file.parent, 0) + len(file.read_text().splitlines())
    total = sum(lines.values())
    too_much = {
        str(folder.relative_to(REPOSITORY)): f"{count / total:.1%}"
        for folder, count in lines.items()
        if count > FOLDER_SHARE_MAX * total
    }
    assert not too_much, f"more than {FOLDER_SHARE_MAX:.0%} of the code in one folder"


def test_the_rooms_of_the_driver_are_not_deep() -> None:
    graph = imports()
    for room in ("streamapp.driver", "streamapp.driver.streams", "streamapp.driver.tables"):
        own = {module for module in graph if module.rpartition(".")[0] == room}

        def levels(module: str, own: set[str] = own) -> list[str]:
            return [module, *max((levels(m, own) for m in graph[module] & own), key=len, default=[])]

        deepest = max(map(levels, sorted(own)), key=len)
        assert len(deepest) <= DRIVER_LEVELS_MAX, f"{room} is {len(deepest)} levels deep: {' -> '.join(deepest)}"


def test_no_two_classes_have_one_name() -> None:
    """Of the platform; the auditor names things anew on purpose, since it shares nothing with what it judges."""
    homes: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        if "audit" in file.relative_to(PACKAGE).parts:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(file.relative_to(REPOSITORY)))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}
