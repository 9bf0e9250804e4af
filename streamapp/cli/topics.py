"""`streamapp topics apply|diff`: the contract's topics on the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer
from rich.table import Table

from streamapp.cli import output
from streamapp.ops import topics as ops
from streamapp.settings import load
from streamapp.topics import Difference, TopicRemedy

_TABLE_WIDTH = 160


def register(app: typer.Typer) -> None:
    """Add the group `topics`."""
    group = typer.Typer(no_args_is_help=True, help="Create the topics with their settings; show what differs.")
    group.command("apply")(apply)
    group.command("diff")(diff)
    app.add_typer(group, name="topics")


def apply(as_json: output.JsonOption = False) -> None:
    """Create the missing topics and set what differs. Partitions are never added, topics never deleted.

    Copies of each topic: STREAMAPP_REPLICATION_FACTOR, by default the smaller of 3 and the brokers that run now.
    Exit code 1: something is left that only a person can mend.

    Example: `STREAMAPP_BROKER=127.0.0.1:9092 streamapp topics apply`
    """
    applied = ops.apply(load())
    if as_json:
        output.emit_json(
            {
                "created": applied.created,
                "altered": [_row(difference) for difference in applied.altered],
                "left": [_row(difference) for difference in applied.left],
            }
        )
    else:
        _print_applied(applied)
    if applied.left:
        raise typer.Exit(output.FAILED)


def diff(as_json: output.JsonOption = False) -> None:
    """Show in what the cluster's topics differ from the contract. Changes nothing. Exit code 1: something differs.

    Example: `streamapp topics diff --json`
    """
    found = ops.diff(load())
    if as_json:
        output.emit_json({"differences": [_row(difference) for difference in found]})
    elif found:
        _print_differences(found)
    else:
        output.out.print("topics: as they should be")
    if found:
        raise typer.Exit(output.FAILED)


def _print_applied(applied: ops.Applied) -> None:
    changes = output.table("topic", "change")
    for name in applied.created:
        changes.add_row(name, "created")
    for change in applied.altered:
        changes.add_row(change.topic, f"{change.setting}: {change.actual} -> {change.wanted}")
    if changes.row_count:
        _print_table(changes)
    if applied.left:
        output.note("left as it was, because only a person can decide it:")
        _print_differences(applied.left)
    elif not changes.row_count:
        output.out.print("topics: as they should be, nothing to do")


def _print_differences(found: Iterable[Difference]) -> None:
    """What differs, then each piece of advice once, with the topics it is for."""
    shown = output.table("topic", "setting", "wanted", "actual", "mended by")
    advice: dict[str, list[str]] = {}
    for each in found:
        by = "you" if each.remedy is TopicRemedy.PERSON else "topics apply"
        shown.add_row(each.topic, each.setting, each.wanted, each.actual, by)
        advice.setdefault(each.advice, []).append(each.topic)
    _print_table(shown)
    for sentence, names in advice.items():
        output.out.print(f"\n{', '.join(names)}:\n  {sentence}", markup=False)


def _print_table(table: Table) -> None:
    # In a pipe the console is 80 columns wide, and would cut the names short.
    output.out.print(table, width=max(output.out.width, _TABLE_WIDTH), crop=False)


def _row(difference: Difference) -> dict[str, Any]:
    return {
        "topic": difference.topic,
        "setting": difference.setting,
        "wanted": difference.wanted,
        "actual": difference.actual,
        "remedy": difference.remedy.value,
        "advice": difference.advice,
    }
