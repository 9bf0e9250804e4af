"""The private names we read of Faust, mode and aiokafka are where we look for them, and all of them are listed."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from streamapp.driver import seams

STREAMAPP = Path(seams.__file__).parent.parent

LISTED = {name for names in seams.SEAMS.values() for name in names if name.startswith("_")}


@pytest.mark.parametrize(("package", "expected"), seams.VERSIONS.items())
def test_the_versions_are_those_the_seams_were_read_in(package: str, expected: str) -> None:
    assert version(package) == expected


@pytest.mark.parametrize(("where", "name"), [(w, n) for w, names in seams.SEAMS.items() for n in names])
def test_every_private_name_is_where_it_was(where: str, name: str) -> None:
    module, _, owner = where.partition(":")
    place = importlib.import_module(module)
    if not owner:
        assert hasattr(place, name)
        return
    kinds = inspect.getmro(getattr(place, owner))
    made_in_init = any(f"self.{name}" in inspect.getsource(kind) for kind in kinds if kind.__module__ != "builtins")
    annotated = any(name in inspect.get_annotations(kind) for kind in kinds)
    assert hasattr(kinds[0], name) or annotated or made_in_init, f"{where}.{name} has moved"


def _trees() -> Iterator[ast.AST]:
    for file in sorted(file for room in ("driver", "client", "eos") for file in (STREAMAPP / room).rglob("*.py")):
        yield ast.parse(file.read_text())


def _made_by_us(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id


def _read(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("faust", "mode", "aiokafka"):
            yield from (alias.name for alias in node.names)


def test_every_private_name_that_is_read_is_listed() -> None:
    ours = {name for tree in _trees() for name in _made_by_us(tree)}
    read = {name for tree in _trees() for name in _read(tree) if name.startswith("_") and not name.startswith("__")}
    public = {"_asdict", "_replace"}  # a named tuple's methods
    assert read - ours - LISTED - public == set()


def test_every_listed_name_is_used() -> None:
    known = {name for tree in _trees() for names in (_made_by_us(tree), _read(tree)) for name in names}
    assert {name for name in LISTED if name not in known} == set()
