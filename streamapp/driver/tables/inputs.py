"""Which topics' events a plain table belongs to, as far as the code of the agents says it, and how many partitions."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from streamapp.errors import ConfigurationError

#: What makes a topic of its own of an agent's events, whose rows are that topic's.
_CHAINS = {"group_by", "through"}


class TableInputs(NamedTuple):
    """A table, its changelog, the partitions it was declared with, and the topics of the agents that name it.

    `topics` None: unknown, because an agent moves its events to another topic first, or none names the table.
    """

    table: str
    changelog: str
    partitions: int | None
    topics: frozenset[str] | None


class Use(NamedTuple):
    """What an agent's function names, by identity, and whether it moves its events to another topic first."""

    agent: Any
    named: frozenset[int]
    moves: bool


def uses(agents: Iterable[Any]) -> list[Use]:
    """What the functions of the agents say; helper functions are not looked into."""
    found = []
    for agent in agents:
        try:
            named = inspect.getclosurevars(inspect.unwrap(agent.fun))
        except (TypeError, ValueError):  # no function of Python, or one with a name that is not bound yet
            continue
        values = frozenset(map(id, (*named.globals.values(), *named.nonlocals.values())))
        found.append(Use(agent, values, not _CHAINS.isdisjoint(named.unbound)))
    return found


def table_inputs(tables: Iterable[Any], agents: Iterable[Any]) -> list[TableInputs]:
    """What the agents' functions say of each table (`uses`)."""
    users: dict[int, set[str]] = {}
    moved: set[int] = set()
    for agent, named, moves in uses(agents):
        for value in named:
            users.setdefault(value, set()).update(agent.get_topic_names())
        if moves:
            moved |= named
    return [
        TableInputs(
            table.name,
            table.changelog_topic_name,
            table.partitions,
            frozenset(users[id(table)]) if id(table) in users and id(table) not in moved else None,
        )
        for table in tables
    ]


def changelog_counts(
    tables: Iterable[TableInputs], inputs: Mapping[str, int], default: int, existing: Mapping[str, int]
) -> tuple[dict[str, int], list[str]]:
    """The partitions of each changelog, and a problem for each table whose rows would be away from their events.

    `inputs`: those of every topic that is read; `existing`: those of every topic that is there.
    """
    counts: dict[str, int] = {}
    problems: list[str] = []
    for table in tables:
        of_table = {topic: inputs[topic] for topic in sorted(table.topics or ()) if topic in inputs}
        found = set(of_table.values())
        listed = ", ".join(f"{topic} has {count}" for topic, count in of_table.items())
        if len(found) > 1:
            problems.append(
                f"Table {table.table} belongs to topics with different numbers of partitions ({listed}), and a row "
                "lies in the partition number of its event. Nothing was consumed. Give the topics one number, or each "
                "a table of its own, or group_by() their events into one topic."
            )
            continue
        wanted = found.pop() if found else table.partitions or default
        counts[table.changelog] = wanted
        there = existing.get(table.changelog, wanted)
        if _differs(table, wanted, there, of_table):
            why = listed or f"table {table.table} was declared with {wanted}"
            problems.append(misfit(table.changelog, why, wanted, there))
        elif of_table and table.partitions not in (None, wanted):
            problems.append(
                f"Table {table.table} was declared with partitions={table.partitions}, and {listed}: its rows would be "
                f"away from their events. Nothing was consumed. Write partitions={wanted}, or leave it out."
            )
    return counts, problems


def _differs(table: TableInputs, wanted: int, there: int, of_table: Mapping[str, int]) -> bool:
    """Whether a changelog that exists does not fit; one whose topics are unknown is taken as it is."""
    return there != wanted and (bool(of_table) or table.partitions is not None)


def refuse_misfits(wanted: Mapping[str, int], there: Mapping[str, int]) -> None:
    """`ConfigurationError` with every changelog of the app's own tables that has another count than its input."""
    problems = [
        misfit(log, f"its input has {count}", count, there[log]) for log, count in wanted.items() if there[log] != count
    ]
    if problems:
        raise ConfigurationError(*problems)


def misfit(changelog: str, why: str, wanted: int, there: int) -> str:
    """What is wrong with a changelog of another count, what deleting it loses, and the command."""
    return (
        f"The changelog {changelog} has {there} partitions, and {why}: events would not find their rows. Nothing was "
        "consumed, and nothing was changed. If partitions were added to the input, its keys have moved away from "
        "their rows: stop, and go on with a topic of the former number. If the table may be lost (all its rows, and "
        "of an inbox all marks, so that repeats count again), stop all workers and run `kafka-topics.sh "
        f"--bootstrap-server <broker> --delete --topic {changelog}`: the next start creates it with {wanted}, empty."
    )
