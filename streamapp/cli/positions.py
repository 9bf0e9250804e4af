"""`streamapp positions show|accept`: how far each input is, and a person's choice where nobody else can know."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from streamapp.cli import output
from streamapp.ops import positions as ops
from streamapp.ops.positions import Choice
from streamapp.settings import Settings, load
from streamapp.types import Partition


def register(app: typer.Typer) -> None:
    """Add the group `positions`."""
    group = typer.Typer(no_args_is_help=True, help="Show how far each input is; choose where it goes on from.")
    group.command("show")(show)
    group.command("accept")(accept)
    app.add_typer(group, name="positions")


def show(as_json: output.JsonOption = False) -> None:
    """Show the position and the group's offset of every input, and where a worker would refuse to go on.

    Of the app STREAMAPP_ID. Changes nothing. Exit code 1: a worker would refuse one of them.

    Example: `STREAMAPP_ID=shop streamapp positions show`
    """
    settings = load()
    rows = asyncio.run(ops.show(_environment(settings), settings))
    if as_json:
        output.emit_json({"positions": [_as_object(row) for row in rows]})
    else:
        table = output.table("input", "position ", "group offset ", "first ", "end ", "")
        for row in rows:
            numbers = [row.position, row.committed, row.earliest, row.end]
            texts = ["none" if number is None else str(number) for number in numbers]
            table.add_row(_name(row.partition), *texts, "refused" if row.problem else "")
        output.out.print(table)
        for problem in filter(None, (row.problem for row in rows)):
            output.out.print("\n" + problem, markup=False)
    if any(row.problem for row in rows):
        raise typer.Exit(output.FAILED)


def accept(
    partition: Annotated[str, typer.Argument(metavar="TOPIC:PARTITION", help="The input.")],
    position: Annotated[bool, typer.Option("--position", help="Go on from the position: where the work is.")] = False,
    group_offset: Annotated[
        bool, typer.Option("--group-offset", help="Go on from the group's offset; what was processed since runs again.")
    ] = False,
    earliest: Annotated[bool, typer.Option("--earliest", help="Go on from the first record that is there.")] = False,
    latest: Annotated[bool, typer.Option("--latest", help="Go on behind the last record that is there.")] = False,
    execute: Annotated[bool, typer.Option("--execute", help="Do it; without it nothing is changed.")] = False,
) -> None:
    """Have one input of the app STREAMAPP_ID go on from another place, in its position and in its group's offset.

    A worker that refuses to start says which one to choose. Tables and marks keep what they have. Refused while the
    group has members.

    Example: `STREAMAPP_ID=shop streamapp positions accept order:0 --position --execute`
    """
    flags = {
        Choice.POSITION: position,
        Choice.GROUP_OFFSET: group_offset,
        Choice.EARLIEST: earliest,
        Choice.LATEST: latest,
    }
    chosen = [choice for choice, is_set in flags.items() if is_set]
    if len(chosen) != 1:
        raise typer.BadParameter("give one of --position, --group-offset, --earliest and --latest")
    topic, colon, number = partition.rpartition(":")
    if not (colon and topic and number.isdecimal()):
        raise typer.BadParameter(f"{partition!r} is not TOPIC:PARTITION, such as order:0")
    settings, place = load(), Partition(topic, int(number))
    done = asyncio.run(ops.accept(_environment(settings), settings, place, chosen[0], execute=execute))
    before = done.before
    was = f"position {before.position}, group offset {before.committed}"
    if done.written:
        output.out.print(f"{partition} goes on from {done.offset} (was: {was}).", markup=False)
    else:
        output.out.print(
            f"{partition} would go on from {done.offset} (now: {was}). Nothing was changed; add --execute.",
            markup=False,
        )


def _environment(settings: Settings) -> Any:
    from streamapp.client.environment import KafkaEnvironment  # slow to import

    return KafkaEnvironment(settings, None)


def _name(partition: Partition) -> str:
    return f"{partition.topic}:{partition.number}"


def _as_object(row: ops.PositionRow) -> dict[str, Any]:
    return {**row._asdict(), "partition": _name(row.partition)}
