"""Dead letters by topic and kind, and which of them get a line in the log: a stranger may cause thousands a second."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from streamapp.eos.partitioner import DEFAULT, Partitioner
from streamapp.errors import RecordError, brief, kind_of

logger = logging.getLogger(__name__)

#: Topics and kinds that are counted apart; of more, which somebody's code may make up, the rest is one.
_KINDS_MAX = 200
_OTHERS = "others"
#: Seconds between two lines of a topic and kind, but for the 1st, 10th, 100th...
_QUIET_S = 60.0
_SENDERS = (
    ". Clients of librdkafka (confluent-kafka, Go, .NET, node) place keys by CRC32 unless told otherwise: set "
    f"partitioner={DEFAULT.name} at the senders."
)


class DeadLetterCounts:
    """Counts dead letters by topic and kind, and chooses which get a log line. `monotonic`: the worker's clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        #: Topics that say which partitioner their senders use, and those that may not.
        self.partitioners: Mapping[str, Partitioner] = {}
        self.of_the_contract: Collection[str] = ()
        self._shown_at: dict[tuple[str, str], float] = {}
        self._monotonic = monotonic

    def note(self, topic: str, partition: int, offset: int, error: BaseException) -> bool:
        """Count one; whether it is one that is shown. What is wrong with a record gets its line here."""
        kind = kind_of(error)
        at = (topic, kind) if (topic, kind) in self.counts or len(self.counts) < _KINDS_MAX else (topic, _OTHERS)
        if at not in self.counts and len(self.counts) >= 2 * _KINDS_MAX:
            at = (_OTHERS, _OTHERS)
        count = self.counts[at] = self.counts.get(at, 0) + 1
        now = self._monotonic()
        if str(count).strip("0") != "1" and now - self._shown_at[at] < _QUIET_S:
            return False
        self._shown_at[at] = now
        if issubclass(type(error), RecordError):
            remedy = self._remedy(topic) if kind == "WrongPartition" else ""
            logger.warning(
                "%s[%d]@%d is a dead letter, in %s-dlt; number %d of kind %s since the start: %s%s",
                topic, partition, offset, topic, count, kind, brief(error), remedy,
            )  # fmt: skip
        return True

    def _remedy(self, topic: str) -> str:
        """What to do about keys that are in another partition than theirs."""
        if topic in self.partitioners:
            name = self.partitioners[topic].name
            return (
                f". The topic is declared with partitioner={name}: set it at the senders that use another one. If none "
                "of them uses it, declare the one that all use."
            )
        if topic in self.of_the_contract:
            return _SENDERS
        return (
            f"{_SENDERS} If all senders of this topic use one other partitioner and are to keep it, declare that one "
            f'instead: app.topic({topic!r}, partitioner="consistent_random") is librdkafka\'s default.'
        )
