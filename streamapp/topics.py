"""The topics of the contract: declared, compared with what a cluster has, and judged. Pure.

A topic is one line in `CONTRACT`, a table's changelog one line in `TABLES`; dead-letter and late topics follow from
what is consumed. `ops/topics.py` reads a cluster, and creates or alters what `differences()` says may be created or
altered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from streamapp.errors import ConfigurationError
from streamapp.settings import PREFIX, Settings

#: Largest value of a source record; what is larger goes to the dead letters.
MAX_RECORD_BYTES = 1 << 20
#: Room for key, headers and the batch's own framing: `max.message.bytes` limits a batch, not a value.
RECORD_OVERHEAD_BYTES = 16 << 10
#: How much larger a dead letter or a late record may be than its source: the headers that say where it came from.
DEAD_LETTER_ROOM_BYTES = 64 << 10
#: `max.message.bytes` of every topic but those of dead letters and of late records.
MAX_BATCH_BYTES = MAX_RECORD_BYTES + RECORD_OVERHEAD_BYTES

_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000
#: How much longer the changelog keeps a mark than the store: a worker may be away as long before it restores.
INBOX_MARGIN_MS = _DAY_MS

CLEANUP, SIZE, STAMP = "cleanup.policy", "max.message.bytes", "message.timestamp.type"
MIN_ISR, MIN_LAG = "min.insync.replicas", "min.compaction.lag.ms"
RETENTION, SEGMENT = "retention.ms", "segment.ms"
SEGMENT_BYTES, DELETE_RETENTION = "segment.bytes", "delete.retention.ms"
CLEANABLE = "min.cleanable.dirty.ratio"
#: Behind an app's id: the topic of its inputs' positions.
POSITIONS = "-positions"


class TopicRemedy(Enum):
    """Who can mend a difference."""

    CREATE = "create"  #: the topic is missing; `topics apply` creates it
    ALTER = "alter"  #: a setting differs; `topics apply` alters it
    PERSON = "person"  #: mending it moves keys or copies; only a person may decide that


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be. `config` holds only the settings we own; all others are left alone."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ActualTopic:
    """A topic as the cluster has it. `replication_factor` is that of its least replicated partition."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs, how it can be mended, and what to do in one sentence."""

    topic: str
    setting: str
    wanted: str
    actual: str
    remedy: TopicRemedy
    advice: str


@dataclass(frozen=True, slots=True)
class Declared:
    """A line of the contract's table of topics.

    `consumed`: a worker reads it, so it has dead letters. `windowed`: its event times decide windows, so some are late.
    """

    name: str
    consumed: bool = False
    windowed: bool = False
    config: Mapping[str, str] = field(default_factory=dict)


#: Upserts are kept whole for a while, so that an auditor finds every one of them and not only the last.
UPSERTS: Mapping[str, str] = {CLEANUP: "compact", MIN_LAG: str(7 * _DAY_MS)}

CONTRACT: tuple[Declared, ...] = (
    Declared("transfer", consumed=True),
    Declared("balances", consumed=True),
    Declared("account-balances", config=UPSERTS),
    Declared("transfer-rejected"),
    Declared("payment", consumed=True, windowed=True),
    Declared("payment-result"),
    Declared("delivery", consumed=True),
    Declared("delivery-status"),
    Declared("payment-totals", config=UPSERTS),
    Declared("ad-click", consumed=True, windowed=True),
    Declared("advertiser-charge"),
    Declared("publisher-revenue"),
    Declared("ad-spend", config=UPSERTS),
)
#: Tables with a changelog, whose topic is `<app id>-<table>-changelog`.
TABLES: tuple[str, ...] = ("balances", "payments", "payment_totals", "ad_spend")


def replication(settings: Settings, brokers: int) -> int:
    """Copies of each topic: the setting, or the smaller of 3 and the brokers. More than brokers is refused."""
    wanted = settings.replication_factor
    if wanted is not None and wanted > brokers:
        raise ConfigurationError(
            f"{PREFIX}REPLICATION_FACTOR={wanted} needs {wanted} brokers, and {brokers} answered at {settings.broker}. "
            "Nothing was changed. Start the others, or lower it."
        )
    return wanted or min(3, max(1, brokers))


def min_insync_replicas(replication_factor: int) -> int:
    """Copies that must have a record before it is acknowledged: 2 of 3, and 1 where 2 would stop on one lost broker."""
    return 2 if replication_factor >= 3 else 1


def specs(settings: Settings, brokers: int) -> tuple[TopicSpec, ...]:
    """Every topic of the contract, in its order. All have the same partition count: a task is one number in all.

    But the last one, that of the positions, which has one.
    """
    return (
        *(spec(settings, brokers, declared.name, config=declared.config) for declared in CONTRACT),
        *(roomy_spec(settings, brokers, f"{declared.name}-dlt") for declared in CONTRACT if declared.consumed),
        *(roomy_spec(settings, brokers, f"{declared.name}-late") for declared in CONTRACT if declared.windowed),
        *(changelog_spec(settings, brokers, f"{settings.id}-{table}-changelog") for table in TABLES),
        inbox_changelog_spec(settings, brokers, f"{settings.id}-inbox-changelog"),
        positions_spec(settings, brokers, settings.id + POSITIONS),
    )


def spec(
    settings: Settings,
    brokers: int,
    name: str,
    partitions: int | None = None,
    config: Mapping[str, str] | None = None,
) -> TopicSpec:
    """A topic as every topic of ours should be; `partitions` None: as many as the settings say."""
    copies = replication(settings, brokers)
    return TopicSpec(name, partitions or settings.partitions, copies, {**_common(copies), **(config or {})})


def roomy_spec(settings: Settings, brokers: int, name: str, partitions: int | None = None) -> TopicSpec:
    """A topic of dead letters or of late records: what it takes has headers more than its source had."""
    return spec(settings, brokers, name, partitions, {SIZE: str(MAX_BATCH_BYTES + DEAD_LETTER_ROOM_BYTES)})


def changelog_spec(settings: Settings, brokers: int, name: str, partitions: int | None = None) -> TopicSpec:
    """A table's changelog: compacted, because it is restored from for ever."""
    return spec(settings, brokers, name, partitions, {CLEANUP: "compact"})


def inbox_changelog_spec(settings: Settings, brokers: int, name: str, partitions: int | None = None) -> TopicSpec:
    """The inbox's changelog: compacted, and deleted by age, so that ids that are forgotten do not stay for ever."""
    retention_ms = int(settings.inbox_retention * 1000)
    kept = {
        CLEANUP: "compact,delete",
        RETENTION: str(retention_ms + retention_ms // 2 + INBOX_MARGIN_MS),
        # Only closed segments are deleted, so they must be closed well within the retention.
        SEGMENT: str(min(7 * _DAY_MS, max(_HOUR_MS, retention_ms // 4))),
    }
    return spec(settings, brokers, name, partitions, kept)


def positions_spec(settings: Settings, brokers: int, name: str) -> TopicSpec:
    """Where an app's commits write how far its inputs are: compacted, in segments so small that it is read at once.

    Every commit leaves a control record in it, which Kafka keeps for `delete.retention.ms` once the log is compacted.
    """
    kept = {CLEANUP: "compact", SEGMENT_BYTES: str(1 << 20), DELETE_RETENTION: str(_HOUR_MS // 60), CLEANABLE: "0.1"}
    return spec(settings, brokers, name, 1, kept)


def _common(copies: int) -> dict[str, str]:
    """What every topic has. Append-time stamps: retention, inbox age and replays must not trust a sender's clock."""
    return {
        CLEANUP: "delete",
        STAMP: "LogAppendTime",
        SIZE: str(MAX_BATCH_BYTES),
        MIN_ISR: str(min_insync_replicas(copies)),
    }


def differences(wanted: Sequence[TopicSpec], actual: Mapping[str, ActualTopic]) -> list[Difference]:
    """Everything that differs, in the order of `wanted`. Topics that nobody declared are none of our business.

    Where the partition count of an existing topic is wrong, missing topics are for a person too: creating them
    with a count that does not fit their neighbours would only add to what must be mended.
    """
    # The topic of positions has a count of its own, by which nobody else's is judged.
    counted = [spec for spec in wanted if not spec.name.endswith(POSITIONS)]
    existing = [actual[spec.name] for spec in counted if spec.name in actual]
    misfit = any(_partitions_differ(spec, actual.get(spec.name)) for spec in wanted)
    found: list[Difference] = []
    for spec in wanted:
        topic = actual.get(spec.name)
        if topic is None:
            found.append(_missing(spec, misfit))
            continue
        if _partitions_differ(spec, topic):
            found.append(_wrong_partitions(spec, topic, existing))
        if topic.replication_factor < spec.replication_factor:
            found.append(_too_few_copies(spec, topic))
        found += _wrong_config(spec, topic)
    return found


def _partitions_differ(spec: TopicSpec, topic: ActualTopic | None) -> bool:
    return topic is not None and topic.partitions != spec.partitions


def _missing(spec: TopicSpec, misfit: bool) -> Difference:
    if misfit:
        remedy, advice = (
            TopicRemedy.PERSON,
            "It is not created before the partition counts of the other topics are right.",
        )
    else:
        remedy, advice = TopicRemedy.CREATE, "Run `streamapp topics apply`, which creates it."
    return Difference(spec.name, "topic", "exists", "missing", remedy, advice)


def _wrong_partitions(spec: TopicSpec, topic: ActualTopic, existing: Iterable[ActualTopic]) -> Difference:
    """Never mended by us: a key's partition follows from the count, so a new count parts keys from their state."""
    counts = {other.partitions for other in existing}
    if len(counts) == 1:
        advice = f"Every topic here has {topic.partitions}, so set {PREFIX}PARTITIONS={topic.partitions}."
    else:
        advice = (
            f"Partitions must not be added to a topic in use (its keys would move away from their state): recreate "
            f"it with {spec.partitions}, or give every topic the same count and set {PREFIX}PARTITIONS to it."
        )
    return Difference(spec.name, "partitions", str(spec.partitions), str(topic.partitions), TopicRemedy.PERSON, advice)


def _too_few_copies(spec: TopicSpec, topic: ActualTopic) -> Difference:
    wanted, actual = str(spec.replication_factor), str(topic.replication_factor)
    advice = (
        "Add replicas with Kafka's tool kafka-reassign-partitions, then apply again, or accept the risk with "
        f"{PREFIX}REPLICATION_FACTOR={actual}."
    )
    return Difference(spec.name, "replication factor", wanted, actual, TopicRemedy.PERSON, advice)


def _wrong_config(spec: TopicSpec, topic: ActualTopic) -> Iterable[Difference]:
    for setting, declared in spec.config.items():
        wanted = declared
        if setting == MIN_ISR:
            # Two of one copy would make the topic refuse every write, so what the topic has decides, not the wish.
            wanted = str(min_insync_replicas(min(topic.replication_factor, spec.replication_factor)))
        actual = topic.config.get(setting, "")
        if not _fits(setting, wanted, actual, topic):
            cost = _COST.get(setting, "the contract has it so")
            advice = f"Run `streamapp topics apply`, which sets it: {cost}."
            yield Difference(spec.name, setting, wanted, actual or "unknown", TopicRemedy.ALTER, advice)


def _fits(setting: str, wanted: str, actual: str, topic: ActualTopic) -> bool:
    """Whether a setting is as wanted, or stricter in a way that breaks nothing."""
    if setting == MIN_ISR:
        return _at_least(wanted, actual) and int(actual) <= topic.replication_factor
    return _FITS.get(setting, str.__eq__)(wanted, actual)


def _at_least(wanted: str, actual: str) -> bool:
    return actual.isdigit() and int(actual) >= int(wanted)


def _same_words(wanted: str, actual: str) -> bool:
    """`cleanup.policy` is a list whose order means nothing."""
    return {word.strip() for word in wanted.split(",")} == {word.strip() for word in actual.split(",")}


_FITS: Mapping[str, Callable[[str, str], bool]] = {CLEANUP: _same_words, SIZE: _at_least, MIN_LAG: _at_least}

#: What a wrong value of each setting costs, as the second half of a sentence.
_COST: Mapping[str, str] = {
    CLEANUP: "a log that is compacted loses entries, and a table that is deleted by age loses keys",
    STAMP: "with the sender's stamps, retention and replays depend on the sender's clock",
    SIZE: "records the contract allows would be refused",
    MIN_ISR: "acknowledged records could be lost with one broker, or none be accepted",
    RETENTION: "an inbox that is restored would have forgotten ids too early, or never forget them",
    SEGMENT: "segments that are not closed in time are not deleted in time",
    SEGMENT_BYTES: "positions in large segments are read for longer at each start",
    DELETE_RETENTION: "the control records among the positions are read at each start for as long",
    CLEANABLE: "positions that are not compacted in time are read for longer at each start",
    MIN_LAG: "upserts would be compacted away before auditors have read them",
}
