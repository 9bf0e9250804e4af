"""Failure is a result (decision 12): what a unit did is replaced by its dead letter, in the same transaction."""

from __future__ import annotations

import logging

from streamapp.delivery.aside import Source
from streamapp.delivery.dead_letter import dead_letter
from streamapp.delivery.inbox import TABLE as INBOX
from streamapp.delivery.inbox import Mark, Status
from streamapp.driver.record import Record
from streamapp.driver.unit import Unit
from streamapp.errors import RecordError, brief
from streamapp.topics import DEAD_LETTER_ROOM_BYTES, MAX_RECORD_BYTES

logger = logging.getLogger(__name__)

#: Largest record that is set aside: the largest record and 64 KiB for where it was and why.
ASIDE_BYTES_MAX = MAX_RECORD_BYTES + DEAD_LETTER_ROOM_BYTES


def replace_by_dead_letter(unit: Unit, error: BaseException, agent: str | None, *, group: str) -> None:
    """Drop what a unit of one record staged; stage its dead letter, and FAILED marks where `agent` has an inbox."""
    record = unit.records[0]
    source = source_of(record)
    entries = [(key, Mark.unpack(raw)) for name, key, raw in unit.entries or () if name == agent]
    attempts = max((mark.attempts for _, mark in entries), default=1)
    letter = dead_letter(source, error, group=group, attempts=attempts, size_max=ASIDE_BYTES_MAX)
    unit.give_up()
    unit.sends.append((letter.topic, letter.partition, letter.key, letter.value, letter.headers, None))
    unit.stores.clear()
    if entries:
        store = unit.task.stores[INBOX]
        rows = unit.stores[store] = store.begin()
        for key, mark in entries:
            rows.set(key, mark._replace(status=Status.FAILED).pack())
    if not isinstance(error, RecordError):
        logger.error(
            "%s raised for %s[%d]@%d, which is now in %s",
            brief(error),
            record.topic,
            record.partition,
            record.offset,
            letter.topic,
            exc_info=error,
        )


def source_of(record: Record) -> Source:
    """A fetched record, with its place, for a topic of records that are set aside."""
    return Source(
        record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, record.headers
    )
