"""How far an app's inputs are, as its topic of positions and its group say; and a person's choice where they differ.

A worker refuses to start where it cannot know which records were processed (`eos/positions.py`). `accept` writes what a
person has decided, to the topic of positions and to the group in one transaction, while no worker runs.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from typing import NamedTuple

from streamapp.engine.environment import Environment
from streamapp.engine.positions import Positions
from streamapp.eos.at_least_once import AtLeastOnceCluster, AtLeastOnceProducer
from streamapp.eos.backoff import Backoff
from streamapp.eos.cluster import NoAnswer
from streamapp.eos.positions import (
    NUMBER,
    FoundPosition,
    Position,
    epochs_of,
    key_of,
    positions_topic,
    start_of,
    value_of,
)
from streamapp.eos.producer import Producer
from streamapp.eos.protocol import Code, Membership, OffsetOf, TopicDescription
from streamapp.eos.recovery import epoch_ends, listed_offsets, stable_offsets
from streamapp.errors import ConfigurationError, StreamAppError, Unavailable
from streamapp.settings import Settings
from streamapp.types import Partition

#: Seconds until a broker counts as away, and of the transaction that `accept` writes.
_PATIENCE_S = 30.0
_TRANSACTION_S = 10.0


class Choice(Enum):
    """Where a partition goes on from."""

    POSITION = "position"
    GROUP_OFFSET = "group-offset"
    EARLIEST = "earliest"
    LATEST = "latest"


class PositionRow(NamedTuple):
    """One partition, and why a worker refuses to read it, if it does."""

    partition: Partition
    position: int | None
    committed: int | None
    earliest: int
    end: int
    problem: str | None = None


class AcceptedPosition(NamedTuple):
    """Where a partition goes on from, and where it was."""

    before: PositionRow
    offset: int
    #: False: it was only looked at.
    written: bool


async def show(environment: Environment, settings: Settings) -> list[PositionRow]:
    """Every partition that has a position, in order. Changes nothing."""
    cluster = await environment.connect()
    try:
        positions = await _read(cluster, environment, settings.id)
        found = await _found(cluster, environment, settings.id, positions, sorted(positions.known))
        return [_row(it, settings.id) for it in found.values()]
    finally:
        await cluster.close()


async def accept(
    environment: Environment, settings: Settings, partition: Partition, choice: Choice, *, execute: bool
) -> AcceptedPosition:
    """Have a partition go on from there; without `execute` only say what would be. Refused while the group is active.

    Raises `StreamAppError` where it is active, and `ConfigurationError` where there is no such place in the log.
    """
    cluster = await environment.connect()
    try:
        await _refuse_an_active_group(cluster, environment, settings.id)
        positions = await _read(cluster, environment, settings.id)
        topic = await _described(cluster, environment, partition)
        found = (await _found(cluster, environment, settings.id, positions, [partition]))[partition]
        offset = _chosen(found, choice)
        if execute:
            position = Position(topic.topic_id, offset, topic.leader_epochs[partition.number], topic.partition_count)
            await _write(cluster, environment, settings, partition, position)
        return AcceptedPosition(_row(found, settings.id), offset, execute)
    finally:
        await cluster.close()


def _chosen(found: FoundPosition, choice: Choice) -> int:
    """The offset of a choice. `ConfigurationError` where the log has nothing there, or there is no such offset."""
    places = {
        Choice.POSITION: found.position.offset if found.position is not None else None,
        Choice.GROUP_OFFSET: found.committed,
        Choice.EARLIEST: found.earliest,
        Choice.LATEST: found.end,
    }
    offset = places[choice]
    if offset is None:
        raise ConfigurationError(f"{found.partition} has no {choice.value}. Nothing was changed. Choose another one.")
    if not found.earliest <= offset <= found.end:
        raise ConfigurationError(
            f"{found.partition} has records from {found.earliest} to {found.end}, and the {choice.value} is {offset}. "
            "Nothing was changed. Choose --earliest or --latest."
        )
    return offset


def _row(found: FoundPosition, group: str) -> PositionRow:
    problem = None
    try:
        start_of(found, group)
    except ConfigurationError as exc:
        problem = str(exc)
    position = found.position.offset if found.position is not None else None
    return PositionRow(found.partition, position, found.committed, found.earliest, found.end, problem)


async def _read(cluster: AtLeastOnceCluster, environment: Environment, group: str) -> Positions:
    positions = Positions(group)
    topic = await _described(cluster, environment, Partition(positions.topic, NUMBER))
    assert topic.partition_count
    await positions.read(cluster, environment)
    return positions


async def _described(cluster: AtLeastOnceCluster, environment: Environment, partition: Partition) -> TopicDescription:
    patience = Backoff(environment.clock, "describing topics", limit_s=_PATIENCE_S, on_limit=Unavailable)
    while True:
        try:
            found = await cluster.describe_topic(partition.topic)
        except NoAnswer as exc:
            await patience.pause(str(exc))
            continue
        if found.error == Code.NONE and partition.number < found.partition_count:
            return found
        raise ConfigurationError(
            f"There is no {partition.topic} with a partition {partition.number}. Nothing was changed. A worker creates "
            "the topic of positions when it starts; STREAMAPP_ID is the app's id."
        )


async def _found(
    cluster: AtLeastOnceCluster,
    environment: Environment,
    group: str,
    positions: Positions,
    partitions: Collection[Partition],
) -> dict[Partition, FoundPosition]:
    """What a worker would find, but for the tables. A partition that does not exist any more is left out."""
    clock, topics = environment.clock, {}
    for topic in {partition.topic for partition in partitions}:
        found = await cluster.describe_topic(topic)
        if found.error == Code.NONE:
            topics[topic] = found
    there = tuple(at for at in partitions if at.topic in topics and at.number < topics[at.topic].partition_count)
    if not there:
        return {}
    committed = await stable_offsets(cluster, group, there, clock=clock)
    earliest = await listed_offsets(cluster, there, OffsetOf.EARLIEST, clock=clock)
    ends = await listed_offsets(cluster, there, OffsetOf.HIGH_WATERMARK, clock=clock)
    ids = {name: topic.topic_id for name, topic in topics.items()}
    known = positions.known
    epochs = epochs_of(there, known, ids)
    epoch_end = await epoch_ends(cluster, epochs, clock=clock) if epochs else {}
    return {
        at: FoundPosition(at, ids[at.topic], committed[at], known.get(at), earliest[at], ends[at], epoch_end.get(at))
        for at in there
    }


async def _refuse_an_active_group(cluster: AtLeastOnceCluster, environment: Environment, group: str) -> None:
    patience = Backoff(environment.clock, "describing the group", limit_s=_PATIENCE_S, on_limit=Unavailable)
    while True:
        try:
            described = await cluster.describe_group(group)
        except NoAnswer as exc:
            await patience.pause(str(exc))
            continue
        break
    if described.members:
        raise StreamAppError(
            f"Group {group} has {len(described.members)} members, and this is for one that nobody works in. Nothing "
            "was changed. Stop all its workers; one with an INSTANCE that was not told to `--leave` keeps its seat for "
            "the session time-out."
        )


async def _write(
    cluster: AtLeastOnceCluster, environment: Environment, settings: Settings, partition: Partition, position: Position
) -> None:
    """The position and the group's offset, in one transaction."""
    group, clock = settings.id, environment.clock
    producer: Producer
    if settings.processing_guarantee == "at_least_once":
        producer = AtLeastOnceProducer(cluster, limit_s=_TRANSACTION_S, clock=clock)
    else:
        name = f"{group}-positions-accept"
        producer = Producer(cluster, name, transaction_timeout_s=_TRANSACTION_S, clock=clock)
    await producer.start()
    topic = positions_topic(group)
    await producer.ensure(topic)
    producer.append(topic, NUMBER, key_of(partition), value_of(position))
    try:
        await producer.produce()
        await producer.bind({partition: position.offset}, Membership(group, -1, ""))
    except StreamAppError:
        await producer.abort()
        raise
    await producer.end()
