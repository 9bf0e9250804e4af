"""Failure is a result (decision 12): what a unit did is replaced by its dead letter, in the same transaction."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from streamapp.delivery.dead_letter import SUFFIX, dead_letter
from streamapp.delivery.inbox import TABLE as INBOX
from streamapp.delivery.inbox import InboxStatus, Mark
from streamapp.delivery.side_output import SideOutput, Source
from streamapp.engine.record import Record
from streamapp.engine.unit import Unit
from streamapp.eos.batches import ROOM
from streamapp.eos.protocol import TopicDescription
from streamapp.errors import RecordError, brief
from streamapp.topics import DEAD_LETTER_ROOM_BYTES, MAX_BATCH_BYTES, MAX_RECORD_BYTES

logger = logging.getLogger(__name__)

#: Largest record that is set aside: the largest record and 64 KiB for where it was and why.
ASIDE_BYTES_MAX = MAX_RECORD_BYTES + DEAD_LETTER_ROOM_BYTES

_RAISED = "%s raised for %s[%d]@%d, which is now in %s"

#: What the headers of one that is shortened take: names of topics and groups, its error, and its windows.
ASIDE_BYTES_MIN = 16 << 10


def room_of(topics: Mapping[str, TopicDescription], topic: str) -> int:
    """Bytes of a record that is set aside in this topic, as it is: somebody else may have made it, or altered it."""
    known = topics.get(topic)
    return ASIDE_BYTES_MAX if known is None else min(ASIDE_BYTES_MAX, known.max_message_bytes - ROOM)


def placed(letter: SideOutput, topics: Mapping[str, TopicDescription]) -> SideOutput:
    """A record that is set aside, in a partition that its topic has: the source's number modulo their count."""
    known = topics.get(letter.topic)
    return letter if known is None else letter._replace(partition=letter.partition % known.partition_count)


def unfit(side: TopicDescription) -> str | None:
    """Why a topic of dead letters or of late records cannot take every record, and what to do; None if it can."""
    alter = f"Run `kafka-configs.sh --bootstrap-server <broker> --alter --entity-type topics --entity-name {side.name}"
    if side.compacted:
        return (
            f"{side.name} is compacted: it keeps the last letter of a key only, and takes none without a key. Nothing "
            f"was consumed. {alter} --add-config cleanup.policy=delete`."
        )
    if side.max_message_bytes < ASIDE_BYTES_MIN:
        return (
            f"{side.name} takes {side.max_message_bytes:,} bytes (max.message.bytes), which is too little for the "
            f"headers of a letter alone. Nothing was consumed. {alter} --add-config "
            f"max.message.bytes={MAX_BATCH_BYTES + DEAD_LETTER_ROOM_BYTES}`."
        )
    return None


def replace_by_dead_letter(
    unit: Unit,
    error: BaseException,
    agent: str | None,
    *,
    group: str,
    topics: Mapping[str, TopicDescription],
    is_shown: bool,
) -> None:
    """Drop what a unit of one record staged; stage its dead letter, and FAILED marks where `agent` has an inbox.

    `topics`: what is known of them; `is_shown`: whether an agent's error gets its line and traceback.
    """
    record = unit.records[0]
    source = source_of(record)
    entries = [(key, Mark.unpack(raw)) for name, key, raw in unit.entries or () if name == agent]
    attempts = max((mark.attempts for _, mark in entries), default=1)
    room = room_of(topics, source.topic + SUFFIX)
    letter = placed(dead_letter(source, error, group=group, attempts=attempts, size_max=room), topics)
    unit.give_up()
    unit.sends.append((letter.topic, letter.partition, letter.key, letter.value, letter.headers, None))
    unit.stores.clear()
    if entries:
        store = unit.task.stores[INBOX]
        rows = unit.stores[store] = store.begin()
        for key, mark in entries:
            rows.set(key, mark._replace(status=InboxStatus.FAILED).pack())
    if is_shown and not issubclass(type(error), RecordError):
        what = brief(error), record.topic, record.partition, record.offset, letter.topic
        try:
            logger.error(_RAISED, *what, exc_info=error)
        except Exception:  # noqa: BLE001 - its traceback cannot be written; the letter stands all the same
            logger.error(_RAISED, *what)


def source_of(record: Record) -> Source:
    """A fetched record, with its place, for a topic of records that are set aside."""
    return Source(
        record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, record.headers
    )
