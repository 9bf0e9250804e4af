"""JSON Schemas of the records: generated from the structs, kept in a directory as they were last released, compared.

A record is a struct of the module that has a `KEY`, or that no other struct of it is derived from. The directory holds
one file a record; `release` writes it, and from then on `check` holds every later version against it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from streamapp.errors import ConfigurationError
from streamapp.ops.compatibility import Problem, Schema, problems

#: Where the records of the contract are, and where their released schemas lie in a checkout.
RECORDS, RELEASED = "streamapp.records", Path("schemas")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class SchemaState(StrEnum):
    """How a record stands against its released schema."""

    SAME = "same"
    CHANGED = "changed"  #: compatibly
    NEW = "new"
    BROKEN = "broken"


class SchemaFinding(NamedTuple):
    """One record against what was released."""

    name: str
    state: SchemaState
    #: Why old records would not be read, or not mean the same.
    breaks: list[Problem]
    #: Why readers of the released version would refuse new records: they must be upgraded first.
    readers_first: list[Problem]


def records(module: str = RECORDS) -> dict[str, type[msgspec.Struct]]:
    """The records of a module by name. Raises `ConfigurationError` if it cannot be imported or has none."""
    found = _structs(_imported(module))
    bases = {base for struct in found.values() for base in struct.__mro__[1:]}
    chosen = {name: struct for name, struct in found.items() if hasattr(struct, "KEY") or struct not in bases}
    if not chosen:
        raise ConfigurationError(f"{module} has no msgspec.Struct, so there are no records to write schemas for.")
    return chosen


def _structs(module: ModuleType) -> dict[str, type[msgspec.Struct]]:
    return {
        name: member
        for name, member in sorted(vars(module).items())
        if isinstance(member, type)
        and issubclass(member, msgspec.Struct)
        and member.__module__ == module.__name__
        and not name.startswith("_")
    }


def _imported(module: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:  # where a user's own module is
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise ConfigurationError(f"The module {module} cannot be imported: {exc}.") from exc


def schema_of(record: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema of a record, draft 2020-12; `x-key` names the field whose text is the record's key."""
    generated = msgspec.json.schema(record)
    for definition in generated["$defs"].values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    key = getattr(record, "KEY", None)
    return {"$schema": _DIALECT, **({"x-key": key} if key else {}), **generated}


def released(directory: Path) -> dict[str, Schema]:
    """The released schemas by record name. Raises `ConfigurationError` for a directory or a file that is none."""
    if not directory.is_dir():
        raise ConfigurationError(
            f"There is no directory {directory}. Run this where it is, name it with --released, or make it with "
            "`streamapp schema release`."
        )
    return {path.stem: _read(path) for path in sorted(directory.glob("*.json"))}


def _read(path: Path) -> Schema:
    try:
        schema = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{path} cannot be read as JSON: {exc}. Restore it from version control.") from exc
    if not isinstance(schema, dict):
        raise ConfigurationError(f"{path} is no JSON Schema but a {type(schema).__name__}. Restore it.")
    return schema


def check(now: dict[str, Schema], before: dict[str, Schema]) -> list[SchemaFinding]:
    """Every record, now or released, in the order of their names. Pure."""
    return [_finding(name, now.get(name), before.get(name)) for name in sorted({*now, *before})]


def _finding(name: str, now: Schema | None, before: Schema | None) -> SchemaFinding:
    if before is None:
        return SchemaFinding(name, SchemaState.NEW, [], [])
    if now is None:
        gone = Problem(
            name,
            "is gone, and topics may still hold it",
            f"Keep the struct; once nothing holds such records any more, delete {name}.json.",
        )
        return SchemaFinding(name, SchemaState.BROKEN, [gone], [])
    if _judged(now) == _judged(before):
        return SchemaFinding(name, SchemaState.SAME, [], [])
    breaks = problems(before, now)
    if breaks:
        return SchemaFinding(name, SchemaState.BROKEN, breaks, [])
    return SchemaFinding(name, SchemaState.CHANGED, [], problems(now, before))


def _judged(schema: Schema) -> Schema:
    return {word: value for word, value in schema.items() if word != "x-released"}


def release(now: dict[str, Schema], directory: Path, version: str) -> list[str]:
    """Write the schemas that differ from those in `directory`, with `version` in them. Returns their names."""
    directory.mkdir(parents=True, exist_ok=True)
    before = released(directory)
    written = [name for name, schema in now.items() if _judged(schema) != _judged(before.get(name, {}))]
    for name in written:
        schema = {"x-released": version, **now[name]}
        (directory / f"{name}.json").write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")
    return written
