"""The campaign's own verdict, beside the auditor's: four views of every balance, and one outcome a transfer.

Shares no code with the service: records are JSON, the stores are opened with rocksdict, the log is read from disk.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import IsolationLevel, Message
from rocksdict import AccessType, Options, Rdict

from campaign.cluster import Cluster
from campaign.transfers import Input

Table = dict[bytes, bytes]


def problems(
    cluster: Cluster, app: str, inputs: Sequence[Input], stores: Iterable[Path], final: int, *, keeps_marks: bool
) -> list[str]:
    """What is wrong after a shot; empty: nothing. `stores` are state directories of ended workers, the first
    `final` of them those of the last owners."""
    changelog, marks = f"{app}-balances-changelog", f"{app}-inbox-changelog"
    names = ["transfer-dlt", "balances-dlt", "balances", "transfer-rejected", "account-balances", changelog, marks]
    found = _open_transactions(cluster, [*names, "transfer"])
    by_topic: dict[str, list[Message]] = {name: [] for name in names}
    for message in cluster.records(names):
        by_topic[message.topic()].append(message)
    found += _outcomes(inputs, by_topic)
    upserts = _last(by_topic["account-balances"])
    logged = {json.loads(key).encode(): value for key, value in _last(by_topic[changelog]).items()}
    found += _differing("changelog", logged, "account-balances", upserts)
    found += _differing("changelog", _amounts(logged), "sum of the legs", _oracle(by_topic["balances"]))
    for table, log in (("balances", changelog), ("inbox", marks)):
        if table == "balances" or keeps_marks:
            found += _disks(table, list(stores), final, by_topic[log], cluster.partitions)
    return found


def _open_transactions(cluster: Cluster, names: Sequence[str]) -> list[str]:
    stable = cluster.ends(names, IsolationLevel.READ_COMMITTED)
    written = cluster.ends(names, IsolationLevel.READ_UNCOMMITTED)
    return [f"open transaction in {at}: stable {stable[at]}, written {written[at]}"
            for at in written if stable[at] != written[at]]  # fmt: skip


def _outcomes(inputs: Sequence[Input], by_topic: dict[str, list[Message]]) -> list[str]:
    """Every good transfer: one debit and one credit, or one refusal. Every bad record: one dead letter."""
    legs = Counter(json.loads(message.value())["event_id"] for message in by_topic["balances"])
    refused = Counter(json.loads(message.value())["transfer_id"] for message in by_topic["transfer-rejected"])
    letters = Counter(message.value() for message in by_topic["transfer-dlt"])
    found = []
    for item in inputs:
        if item.repeat:
            continue
        if item.bad:  # its id may be a good transfer's
            if (dead := letters.pop(item.value, 0)) != 1:
                found.append(f"{item.event_id}: {dead} dead letters")
            continue
        debited, credited = legs.pop(f"{item.event_id}:debit", 0), legs.pop(f"{item.event_id}:credit", 0)
        refusals = refused.pop(item.event_id, 0)
        if (debited, credited, refusals) not in ((1, 1, 0), (0, 0, 1)):
            found.append(f"{item.event_id}: {debited} debits, {credited} credits, {refusals} refusals")
    strangers = [*legs, *refused, *map(str, letters)] + [str(letter.value()) for letter in by_topic["balances-dlt"]]
    return found + [f"{name}: an effect without a transfer" for name in strangers]


def _last(messages: Iterable[Message]) -> Table:
    """The fold: the last value of each key; a null value deletes."""
    table: Table = {}
    for message in messages:
        if message.value() is None:
            table.pop(message.key(), None)
        else:
            table[message.key()] = message.value()
    return table


def _amounts(table: Table) -> dict[bytes, Any]:
    rows = {key: json.loads(value) for key, value in table.items()}
    return {key: ({c: a for c, a in row["balances"].items() if a}, row["entries"]) for key, row in rows.items()}


def _oracle(legs: Iterable[Message]) -> dict[bytes, Any]:
    """Balances and number of entries of each account, from its committed legs."""
    sums: dict[bytes, Counter[str]] = {}
    entries: Counter[bytes] = Counter()
    for message in legs:
        leg = json.loads(message.value())
        key = leg["account"].encode()
        sums.setdefault(key, Counter())[leg["currency"]] += leg["amount"]
        entries[key] += 1
    return {key: ({c: a for c, a in sums[key].items() if a}, entries[key]) for key in sums}


def _differing(name: str, left: dict[bytes, Any], other: str, right: dict[bytes, Any]) -> list[str]:
    keys = [key for key in sorted(left.keys() | right.keys()) if left.get(key) != right.get(key)]
    return [f"{key.decode()}: {name} has {left.get(key)!r}, {other} {right.get(key)!r}" for key in keys[:3]]


def _disks(table: str, stores: Sequence[Path], final: int, log: Sequence[Message], partitions: int) -> list[str]:
    """Each store is the fold of the changelog up to its checkpoint; one of the last owners' is at the end."""
    found = []
    complete = set()
    for place, directory in enumerate(stores):
        for number in range(partitions):
            path = directory / table / str(number)
            records = [message for message in log if message.partition() == number]
            if not (path / "CURRENT").exists():
                continue
            checkpoint, rows = _dump(path)
            fold = _last(message for message in records if message.offset() < checkpoint)
            found += _differing(f"disk {directory.name}/{table}[{number}]@{checkpoint}", rows, "changelog", fold)
            if place < final and all(message.offset() < checkpoint for message in records):
                complete.add(number)
    missing = {message.partition() for message in log} - complete
    return found + [f"no owner's store has the end of the changelog of {table}[{number}]" for number in sorted(missing)]


def _dump(path: Path) -> tuple[int, Table]:
    families = {name: Options(raw_mode=True) for name in Rdict.list_cf(str(path))}
    database = Rdict(str(path), Options(raw_mode=True), families, access_type=AccessType.read_only())
    try:
        stored = database.get(b"checkpoint")
        rows: Table = {}
        for family in sorted(families.keys() - {"default"}, key=lambda it: int(it.removeprefix("until-"))):
            rows |= dict(database.get_column_family(family).items())
        return int.from_bytes(stored or b"", "big"), rows
    finally:
        database.close()
