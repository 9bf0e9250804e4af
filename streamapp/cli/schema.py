"""`streamapp schema show|check|release`: what the topics carry, as JSON Schema, and whether it may change so."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from streamapp.cli import output
from streamapp.errors import ConfigurationError
from streamapp.ops import schemas
from streamapp.ops.compatibility import Problem, Schema
from streamapp.ops.schemas import SchemaFinding, SchemaState

RecordsOption = Annotated[
    str, typer.Option("--records", metavar="MODULE", help="Where the records are; a module of your own works too.")
]
ReleasedOption = Annotated[
    Path, typer.Option("--released", metavar="DIR", help="Where the schemas are kept as they were last released.")
]


def register(app: typer.Typer) -> None:
    """Add the group `schema`."""
    group = typer.Typer(no_args_is_help=True, help="JSON Schemas of the records, and whether they stay compatible.")
    group.command("show")(show)
    group.command("check")(check)
    group.command("release")(release)
    app.add_typer(group, name="schema")


def show(
    name: Annotated[str | None, typer.Argument(help="A record; without it all are listed.")] = None,
    records: RecordsOption = schemas.RECORDS,
    as_json: output.JsonOption = False,
) -> None:
    """Print the JSON Schema of a record, or list the records. Exit code 2: there is no such record.

    Example: `streamapp schema show Transfer > transfer.schema.json`
    """
    now = _now(records)
    if name is not None:
        if name not in now:
            raise ConfigurationError(f"There is no record {name}. There are {', '.join(now)}.")
        output.emit_json(now[name])
    elif as_json:
        output.emit_json(now)
    else:
        listed = output.table("record", "key", "fields ", "required ")
        for record, schema in now.items():
            body = schema["$defs"][schema["$ref"].rpartition("/")[2]]
            listed.add_row(
                record, schema.get("x-key", ""), str(len(body["properties"])), str(len(body.get("required", ())))
            )
        output.out.print(listed)


def check(
    records: RecordsOption = schemas.RECORDS,
    released: ReleasedOption = schemas.RELEASED,
    as_json: output.JsonOption = False,
) -> None:
    """Hold the records against their released schemas: whether this version reads what the last one wrote.

    Exit code 1: it does not, and each reason comes with what to do instead. Changes nothing.

    Example: `streamapp schema check --json`
    """
    found = schemas.check(_now(records), schemas.released(released))
    if as_json:
        output.emit_json({"compatible": not _broken(found), "records": [_row(finding) for finding in found]})
    else:
        _print(found)
    raise typer.Exit(output.FAILED if _broken(found) else output.DONE)


def release(
    records: RecordsOption = schemas.RECORDS,
    released: ReleasedOption = schemas.RELEASED,
    version: Annotated[str | None, typer.Option(help="What to write into them; default: this package's.")] = None,
    as_json: output.JsonOption = False,
) -> None:
    """Keep the schemas as they are now, for later versions to be held against. Part of making a release.

    Exit code 1: they break what was released, and nothing is written.

    Example: `streamapp schema release`
    """
    now = _now(records)
    before = schemas.released(released) if released.exists() else {}
    found = schemas.check(now, before)
    written = [] if _broken(found) else schemas.release(now, released, version or metadata.version("streamapp"))
    if as_json:
        output.emit_json({"compatible": not _broken(found), "written": written})
    elif _broken(found):
        _print(found)
        output.error("nothing was written: old records would not be read")
    else:
        output.out.print(f"{len(written)} written to {released}: {', '.join(written)}" if written else "nothing new")
    raise typer.Exit(output.FAILED if _broken(found) else output.DONE)


def _now(module: str) -> dict[str, Schema]:
    return {name: schemas.schema_of(record) for name, record in schemas.records(module).items()}


def _broken(found: list[SchemaFinding]) -> bool:
    return any(finding.breaks for finding in found)


def _print(found: list[SchemaFinding]) -> None:
    for finding in found:
        colour = {SchemaState.BROKEN: "bold red", SchemaState.SAME: "dim"}.get(finding.state, "green")
        output.out.print(f"{finding.state.value:<8}", style=colour, end=" ")
        output.out.print(finding.name, markup=False)
        for problem in finding.breaks:
            _print_problem(problem)
        if finding.readers_first:
            output.out.print("         readers of the released version refuse what this one writes:")
            for problem in finding.readers_first:
                output.out.print(f"           {problem.where} {problem.what}", markup=False)
            output.out.print("         Upgrade every reader before the first writer; there is no way back after that.")


def _print_problem(problem: Problem) -> None:
    output.out.print(f"         {problem.where} {problem.what}", markup=False)
    output.out.print(f"           {problem.fix}", markup=False)


def _row(finding: SchemaFinding) -> dict[str, Any]:
    return {
        "record": finding.name,
        "state": finding.state.value,
        "breaks": [problem._asdict() for problem in finding.breaks],
        "readers_first": [problem._asdict() for problem in finding.readers_first],
    }
