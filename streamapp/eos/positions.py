"""Where to read a partition on from: what the group has committed, what the app has written, and what the log still is.

Each commit writes the position of every input that moved into the compacted topic `<app id>-positions`, in the same
transaction as the group's offsets. Kafka forgets a group's offsets (KIP-211: a week after the last member, or whenever
somebody deletes or resets them); outputs and tables stay. Without the position a worker would begin at the earliest
record, on tables that contain it already.

    neither, no state                       the beginning: a new app, or a new input of one
    neither, but state, and records         refused; where the log is empty there is nothing to count twice
    only the group's offset                 taken: written by a version without positions
    only the position                       taken, with a line
    both, the group's behind                refused: what lies between would count twice
    both, the group's ahead                 taken, with a line: another program or a person has moved on
    the position is of another topic id     a new topic of the same name: its beginning, with a line
    truncated, beyond the end, deleted      refused

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from streamapp.eos.protocol import TopicDescription
from streamapp.errors import ConfigurationError
from streamapp.topics import POSITIONS
from streamapp.types import Partition

#: The partition of the topic that all positions are in, so that a commit pays for one.
NUMBER = 0
_VERSION = 1
#: The leader epoch of a position that nothing was fetched before.
NO_EPOCH = -1


class Position(NamedTuple):
    """How far an input is processed: the next offset to read, of which topic, and the epoch of what was read last."""

    topic_id: str
    offset: int
    leader_epoch: int = NO_EPOCH
    #: How many partitions the topic had; 0 where that was not written.
    partitions: int = 0


def positions_topic(app_id: str) -> str:
    """The name of an app's topic of positions."""
    return app_id + POSITIONS


def key_of(partition: Partition) -> bytes:
    """The key of a partition's position."""
    return json.dumps([partition.topic, partition.number]).encode()


def value_of(position: Position) -> bytes:
    """The value of a position: JSON, with the version of its format."""
    return json.dumps({"version": _VERSION, **position._asdict()}).encode()


def read_position(key: bytes | None, value: bytes | None) -> tuple[Partition, Position | None]:
    """A record of the topic; None where a position was taken back.

    Raises `ConfigurationError` for what no version of ours has written: it must not be passed over.
    """
    try:
        topic, number = json.loads(key or b"")
        partition = Partition(str(topic), int(number))
        if value is None:
            return partition, None
        found: dict[str, Any] = json.loads(value)
        if found["version"] != _VERSION:
            raise ValueError(f"its version is {found['version']}")
        return partition, Position(
            str(found["topic_id"]), int(found["offset"]), int(found["leader_epoch"]), int(found.get("partitions", 0))
        )
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigurationError(
            f"A record of the topic of positions cannot be read ({exc}): key {key!r:.80}, value {value!r:.120}. "
            "Nothing is processed. Use the version of streamapp that wrote it, or, if another program did, stop all "
            "workers and delete the topic: they go on from the group's offsets."
        ) from exc


def added_partitions(
    known: Mapping[Partition, Position], inputs: Mapping[str, TopicDescription], group: str
) -> list[str]:
    """A problem for each input that has more partitions than its positions were written with: keys have moved."""
    then: dict[str, int] = {}
    for at, position in known.items():
        topic = inputs.get(at.topic)
        if topic is not None and topic.topic_id == position.topic_id and position.partitions:
            then[at.topic] = min(position.partitions, then.get(at.topic, position.partitions))
    return [
        f"{topic} has {inputs[topic].partition_count} partitions, and had {count} when its positions were written: "
        "partitions were added to a topic in use, so that keys have moved away from their state. What was committed "
        "stands, and nothing more is processed. Have its senders write to a new topic, and read that. Where neither a "
        "table nor the order of a key's records matters, stop all workers and accept it for each of its partitions "
        f"from 0 to {count - 1}: `{_accept(group, Partition(topic, 0), '--position')}`."
        for topic, count in sorted(then.items())
        if inputs[topic].partition_count > count
    ]


def epochs_of(
    partitions: Iterable[Partition], known: Mapping[Partition, Position], topic_ids: Mapping[str, str]
) -> dict[Partition, int]:
    """The leader epoch of each position that is of the topic there is, and that anything was fetched before."""
    return {
        at: position.leader_epoch
        for at in partitions
        if (position := known.get(at)) is not None
        and position.topic_id == topic_ids[at.topic]
        and position.leader_epoch != NO_EPOCH
    }


class FoundPosition(NamedTuple):
    """What is known of one input partition when it is assigned."""

    partition: Partition
    #: The id of the topic as it is now.
    topic_id: str
    #: The group's committed offset.
    committed: int | None
    position: Position | None
    #: The log: its first offset, its end, and where the position's epoch ends in it; None where that is not known.
    earliest: int
    end: int
    epoch_end: int | None = None
    #: Its task has rows in a table, or had some.
    has_state: bool = False
    #: Another input of its task has a position, so that it would have one, too, if it had ever been read.
    is_new: bool = False


class Start(NamedTuple):
    """Where to begin, and the line that says why, if it is not what is expected."""

    offset: int
    line: str | None = None


def start_of(found: FoundPosition, group: str, *, lags: bool = False) -> Start:
    """Where to read a partition on from. Raises `ConfigurationError` where that cannot be known without a person.

    `lags`: positions are written one commit late (at least once), so that a group ahead of one is as it should be.
    """
    partition, position, committed = found.partition, found.position, found.committed
    if position is not None and position.topic_id != found.topic_id:
        return Start(
            found.earliest,
            f"{partition}: another topic of this name (id {found.topic_id}; the position {position.offset} was of "
            f"{position.topic_id}): it is read from its start, {found.earliest}. Tables and marks keep what they have.",
        )
    if position is None:
        return _without_position(found, group)
    _refuse_a_lost_record(found, group, position.offset, position)
    if committed is None:
        line = f"{partition}: group {group} has no committed offset; it goes on from its position {position.offset}"
        return Start(position.offset, line if position.offset > found.earliest else None)
    if committed < position.offset:
        raise ConfigurationError(
            f"{partition}: the offset of group {group} is {committed}, and the position is {position.offset}: what "
            "lies between was processed, and would count twice. Nothing was. To go on where the work is: "
            f"`{_accept(group, partition, '--position')}`. To process the records between again: "
            f"`{_accept(group, partition, '--group-offset')}`."
        )
    _refuse_a_lost_record(found, group, committed)
    if committed > position.offset and not lags:
        return Start(
            committed,
            f"{partition}: the offset of group {group} is {committed}, ahead of the position {position.offset}: "
            "another program, an older worker or a person has moved on; it goes on from the group's offset",
        )
    return Start(committed)


def _without_position(found: FoundPosition, group: str) -> Start:
    partition, committed = found.partition, found.committed
    if committed is not None:
        _refuse_a_lost_record(found, group, committed)
        return Start(committed)
    if found.has_state and not found.is_new and found.earliest < found.end:
        raise ConfigurationError(
            f"{partition}: group {group} has no committed offset, there is no position, and the tables contain work: "
            "its records may have been processed, and would count twice. Nothing was. If none of them was (a new "
            f"input, or tables that should count again): `{_accept(group, partition, '--earliest')}`. If all of them "
            f"were: `{_accept(group, partition, '--latest')}`."
        )
    line = f"{partition}: a new input of group {group}, read from its start, {found.earliest}"
    return Start(found.earliest, line if found.has_state else None)


def _refuse_a_lost_record(found: FoundPosition, group: str, offset: int, position: Position | None = None) -> None:
    """`ConfigurationError` where the next record is not in the log any more, or is another one than it was."""
    partition, earliest, end = found.partition, found.earliest, found.end
    what = f"{partition}: the {'position' if position is not None else f'committed offset of group {group}'} {offset}"
    if offset < earliest:
        raise ConfigurationError(
            f"{what} is gone, the topic now begins at {earliest}: records were deleted before they were processed. "
            "Nothing was skipped. Raise the topic's retention; to go on without them: "
            f"`{_accept(group, partition, '--earliest')}`."
        )
    if offset > end:
        raise ConfigurationError(
            f"{what} is beyond the end {end}: records that were processed are gone from the topic. Nothing was "
            "processed since. Look for an unclean leader election or a restored backup; to go on with what comes "
            f"next: `{_accept(group, partition, '--latest')}`; to process all that is there again: "
            f"`{_accept(group, partition, '--earliest')}`."
        )
    if position is not None and found.epoch_end is not None and found.epoch_end < offset:
        raise ConfigurationError(
            f"{what} was read in leader epoch {position.leader_epoch}, which now ends at {found.epoch_end}: the log "
            "was truncated there (an unclean leader election), and has other records since. Nothing was processed "
            f"since. To go on behind them: `{_accept(group, partition, '--latest')}`; to go on at the same offset: "
            f"`{_accept(group, partition, '--position')}`; to process all that is there again: "
            f"`{_accept(group, partition, '--earliest')}`."
        )


def _accept(group: str, partition: Partition, what: str) -> str:
    return f"STREAMAPP_ID={group} streamapp positions accept {partition.topic}:{partition.number} {what} --execute"


class PositionLost(ConfigurationError):
    """A partition cannot be read on from where the worker is. It ends; nothing is skipped."""

    def __init__(self, partition: Partition, offset: int, group: str) -> None:
        super().__init__(
            f"{partition}: its next record, at offset {offset}, is not in the log any more: it was deleted before it "
            "was processed (retention, DeleteRecords), the log was truncated, or the topic was deleted and created "
            "anew. What was committed stands, and nothing was skipped. Start the worker again: it says what became of "
            f"the log, and the command that goes on. `STREAMAPP_ID={group} streamapp positions show` shows it, too."
        )


class TopicReplaced(ConfigurationError):
    """An input is another topic than it was. The worker ends; its next start reads the new one from its start."""

    def __init__(self, topic: str, before: str, now: str) -> None:
        super().__init__(
            f"{topic} was deleted and created anew while this worker read it: its id was {before} and is {now}. What "
            "was committed stands. Start the worker again: it reads the new topic from its start; tables and marks "
            "keep what they have."
        )
