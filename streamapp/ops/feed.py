"""Sends records from lines of JSON to a topic and counts, truly, what was acknowledged.

Only the key is looked at, because Kafka needs one; everything else goes out byte for byte, also what the service
will refuse: its dead letters are the service's to write. The producer is idempotent and waits for all in-sync
copies, so what is counted as acknowledged is in the topic, once.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamapp.clock import SYSTEM_CLOCK, Clock
from streamapp.errors import ConfigurationError, RecordError
from streamapp.ops.connection import REACH_TIMEOUT_S, ErrorListener, client_arguments, reach
from streamapp.ops.lines import InputLine
from streamapp.records import AdClick, Payment, Transfer
from streamapp.settings import Settings
from streamapp.topics import MAX_BATCH_BYTES, MAX_RECORD_BYTES

#: How long one record may wait for its acknowledgement: a new leader is elected well within it.
DELIVERY_TIMEOUT_S = 30.0
#: How long an interrupted feed waits for what is under way.
FLUSH_TIMEOUT_S = 10.0

#: Sent and not yet acknowledged, at most. Acknowledged within DELIVERY_TIMEOUT_S at 0.6 MB/s and more.
_QUEUE_KIB = 16 << 10
#: Framing of a batch of one record, with room to spare.
_FRAMING_BYTES = 1 << 10
_POLL_S = 0.1
_PROGRESS_S = 0.1


@dataclass(frozen=True, slots=True)
class FeedKind:
    """What `feed` can send: the topic, and the field of the record whose text is the key."""

    topic: str
    key_field: str


KINDS: Mapping[str, FeedKind] = {
    "transfers": FeedKind("transfer", Transfer.KEY),
    "payments": FeedKind("payment", Payment.KEY),
    "clicks": FeedKind("ad-click", AdClick.KEY),
}


_UNACKNOWLEDGED = "Kafka did not acknowledge a record in time"


class Outcome(Enum):
    """How a feed ended."""

    COMPLETE = "complete"
    STOPPED = "stopped"  #: at a bad line
    INTERRUPTED = "interrupted"  #: by a signal, or by who called
    FAILED = "failed"  #: the broker refused or fell silent, or the input could not be read


@dataclass(slots=True)
class FeedCount:
    """What has been done so far. `skipped` lines were bad; `acknowledged` is never above `sent`."""

    sent: int = 0
    acknowledged: int = 0
    skipped: int = 0
    seconds: float = 0.0

    @property
    def read(self) -> int:
        """Lines dealt with, blank ones not counted."""
        return self.sent + self.skipped

    @property
    def rate(self) -> float:
        """Acknowledged records a second."""
        return self.acknowledged / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class FeedResult:
    """The final count. What was sent and not acknowledged may or may not be in the topic."""

    outcome: Outcome
    count: FeedCount
    #: The number of the last line that was sent or skipped.
    last_line: int
    #: Why it stopped or failed, else empty.
    reason: str

    @property
    def clean(self) -> bool:
        """Every line was good and every record acknowledged."""
        count = self.count
        return self.outcome is Outcome.COMPLETE and not count.skipped and count.acknowledged == count.sent


class Key:
    """Reads the key out of a line. `RecordError` says why there is none."""

    def __init__(self, field: str) -> None:
        keyed = msgspec.defstruct("Keyed", [("key", str, msgspec.field(name=field))])
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(keyed).decode

    def of(self, content: bytes | None) -> bytes:
        """The key field's text in UTF-8."""
        if content is None or len(content) > MAX_RECORD_BYTES:
            raise RecordError(f"longer than {MAX_RECORD_BYTES} bytes", kind="TooLarge")
        try:
            key: str = self._decode(content).key
            return key.encode()
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
            raise RecordError(str(exc)) from None


class FeedRate:
    """Spreads records evenly over time. After a pause it does not make up for more than a tenth of a second."""

    _CATCH_UP_S = 0.1

    def __init__(self, rate: float | None, now: float) -> None:
        self._step_s = 1 / rate if rate else 0.0
        self._due = now

    def wait_s(self, now: float) -> float:
        """Seconds until the next record is due; a call takes it, so the one after is due a step later."""
        self._due = max(self._due, now - self._CATCH_UP_S)
        wait_s = self._due - now
        self._due += self._step_s
        return max(0.0, wait_s)


def numbered(contents: Iterable[bytes]) -> Iterator[InputLine]:
    """Records made by a program, as lines."""
    return (InputLine(number, content) for number, content in enumerate(contents, 1))


def feed(
    settings: Settings,
    kind: FeedKind,
    lines: Iterable[InputLine | None],
    *,
    rate: float | None = None,
    on_error: Literal["stop", "skip"] = "stop",
    on_bad_line: Callable[[int, str], None] = lambda number, reason: None,
    on_progress: Callable[[FeedCount], None] = lambda count: None,
    stop: threading.Event | None = None,
    reach_timeout_s: float = REACH_TIMEOUT_S,
    delivery_timeout_s: float = DELIVERY_TIMEOUT_S,
) -> FeedResult:
    """Send every line to the topic of its kind and wait for the acknowledgements.

    Blocks; from a coroutine, run it in a thread and set `stop` to end it early with a true count. A None among the
    lines means that there is nothing to send yet. Raises `Unavailable` if no broker answers at the start, and
    `ConfigurationError` if the topic does not exist; nothing was sent then. Later failures are in the result.
    """
    if rate is not None and not 0 < rate < math.inf:
        raise ConfigurationError(f"A rate of {rate:g} records a second cannot be kept. Nothing was sent.")
    listener = ErrorListener()
    producer = Producer(_arguments(settings, listener, delivery_timeout_s))
    try:
        metadata = reach(producer, settings, listener, reach_timeout_s)
        topic = metadata.topics.get(kind.topic)
        if topic is None or not topic.partitions:
            raise ConfigurationError(
                f"Kafka at {settings.broker} has no topic {kind.topic}. Nothing was sent. "
                "Create it with `streamapp topics apply`."
            )
        feeding = _Feeding(producer, listener, kind, rate, on_progress, stop or threading.Event(), SYSTEM_CLOCK)
        return feeding.run(lines, on_error, on_bad_line, delivery_timeout_s)
    finally:
        producer.purge()
        producer.flush(_POLL_S)


def _arguments(settings: Settings, listener: ErrorListener, delivery_timeout_s: float) -> dict[str, Any]:
    return {
        **client_arguments(settings, listener),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2",
        "compression.type": "zstd",
        "linger.ms": 20,
        "message.timeout.ms": int(delivery_timeout_s * 1000),
        "message.max.bytes": MAX_BATCH_BYTES - _FRAMING_BYTES,
        "queue.buffering.max.kbytes": _QUEUE_KIB,
        "reconnect.backoff.max.ms": 1000,
    }


class _Feeding:
    """One feed under way: a producer and the count of what it did."""

    def __init__(
        self,
        producer: Producer,
        listener: ErrorListener,
        kind: FeedKind,
        rate: float | None,
        on_progress: Callable[[FeedCount], None],
        stop: threading.Event,
        clock: Clock,
    ) -> None:
        self._producer, self._listener, self._kind = producer, listener, kind
        self._on_progress, self._stop, self._clock = on_progress, stop, clock
        self._key = Key(kind.key_field)
        self._started = self._told = clock.monotonic()
        self._pace = FeedRate(rate, self._started)
        self._count = FeedCount()
        self._last_line = 0
        #: Why no more can be sent.
        self._failure = ""
        self._exhausted = False

    def run(
        self,
        lines: Iterable[InputLine | None],
        on_error: Literal["stop", "skip"],
        on_bad_line: Callable[[int, str], None],
        delivery_timeout_s: float,
    ) -> FeedResult:
        outcome, reason = self._send_all(lines, on_error, on_bad_line)
        self._flush(delivery_timeout_s)
        if self._failure:
            outcome, reason = Outcome.FAILED, self._failure
        elif outcome is Outcome.COMPLETE and self._count.acknowledged < self._count.sent:
            if self._stop.is_set():
                outcome = Outcome.INTERRUPTED
            else:
                outcome, reason = Outcome.FAILED, f"{_UNACKNOWLEDGED} (nothing within {delivery_timeout_s:g} s)"
        return FeedResult(outcome, self._count, self._last_line, reason)

    def _send_all(
        self,
        lines: Iterable[InputLine | None],
        on_error: Literal["stop", "skip"],
        on_bad_line: Callable[[int, str], None],
    ) -> tuple[Outcome, str]:
        """Send until the input ends, a bad line stops it, or there is another reason to stop."""
        for line in self._readable(lines):
            try:
                if not self._send(line):
                    break
            except RecordError as exc:
                self._count.skipped += 1
                on_bad_line(line.number, str(exc))
                if on_error == "stop":
                    return Outcome.STOPPED, f"line {line.number}: {exc}"
            self._last_line = line.number
        else:
            if self._exhausted:
                return Outcome.COMPLETE, ""
        return Outcome.INTERRUPTED, ""

    def _readable(self, lines: Iterable[InputLine | None]) -> Iterator[InputLine]:
        try:
            for line in lines:
                if not self._going_on(0.0):
                    return
                if line is not None:
                    yield line
        except OSError as exc:
            self._failure = f"the input could not be read after line {self._last_line}: {exc.strerror}"
        self._exhausted = True

    def _send(self, line: InputLine) -> bool:
        """Hand a line to the producer, waiting for its turn and for room. False: stopped or failed meanwhile."""
        key = self._key.of(line.content)
        if not self._going_on(self._pace.wait_s(self._clock.monotonic())):
            return False
        while True:
            try:
                self._producer.produce(self._kind.topic, line.content, key, on_delivery=self._delivered)
            except BufferError:
                if not self._going_on(_POLL_S):
                    return False
            except KafkaException as exc:
                if exc.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise RecordError("key and value together are too large for the topic", kind="TooLarge") from None
                self._failure = self._failure or exc.args[0].str()
                return False
            else:
                self._count.sent += 1
                return True

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self._count.acknowledged += 1
        elif error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            why = self._listener.fatal or self._listener.last
            timed_out = error.code() == KafkaError._MSG_TIMED_OUT
            what = _UNACKNOWLEDGED if timed_out else f"Kafka refused a record: {error.str()}"
            self._failure = self._failure or (f"{what} ({why})" if why else what)

    def _going_on(self, wait_s: float) -> bool:
        """Serve acknowledgements for `wait_s`, at least once. False as soon as there is a reason to stop."""
        until = self._clock.monotonic() + wait_s
        while True:
            left = until - self._clock.monotonic()
            # The client waits in whole milliseconds; a shorter wait is made up for by the next record's.
            self._producer.poll(min(left, _POLL_S) if left >= 0.001 else 0)
            self._tell()
            if self._failure or self._stop.is_set():
                return False
            if left < 0.001:
                return True

    def _flush(self, timeout_s: float) -> None:
        """Wait for what is under way: until each record is acknowledged or timed out, 10 s if interrupted."""
        begun = self._clock.monotonic()
        while len(self._producer) and not self._failure:
            allowed_s = min(timeout_s, FLUSH_TIMEOUT_S) if self._stop.is_set() else timeout_s
            if self._clock.monotonic() - begun > allowed_s + 2 * _POLL_S:
                break
            self._producer.flush(_POLL_S)
            self._tell()
        self._tell(final=True)

    def _tell(self, final: bool = False) -> None:
        now = self._clock.monotonic()
        if final or now - self._told >= _PROGRESS_S:
            self._told, self._count.seconds = now, now - self._started
            self._on_progress(self._count)
