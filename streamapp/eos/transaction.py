"""The transaction as a table of states. Pure: it takes events, holds the identity and the sequences, does no I/O.

                                      identified
                 UNIDENTIFIED ───────────────────────▶ EMPTY ◀────────────────────────────────────┐
                                                        │ │                                       │
                                    produce ┌───────────┘ └──────────┐ offsets                    │
                                            ▼                        ▼                            │
                         produce ╭─ RECORDS_SENT ──offsets──▶ OFFSETS_SENT ─╮ produce, offsets    │
                                 ╰───────▶  │                     │   │ ◀───╯                     │
                                            │ abort         abort │   │ commit                    │
                                            ▼                     │   ▼                           │
                               abort ╭─ ABORTING ◀────────────────┘ COMMITTING ─╮                 │
                                     ╰──▶  │  │                     │   │   ◀────╯ commit          │
                                           │  └──────── ended ──────│───┴─ ended ─────────────────┤
                                           │ ended by broker        │ ended by broker             │
          (also RECORDS_SENT, OFFSETS_SENT,▼                        ▼                             │
           EMPTY) ──── ended by broker ─▶ ENDED_BY_BROKER ──────────────────────── identified ────┘

          every state but UNIDENTIFIED ── fenced ──▶ FENCED   (terminal: another process has a newer epoch)

Three rules of the design are edges that are missing: nothing commits from RECORDS_SENT (no transaction ends without an
offset in it, decision 4), nothing leaves COMMITTING but an answer (decision 7), nothing leaves FENCED (decision 5).
ENDED_BY_BROKER: it ended the transaction without us, by time-out; what comes next is a new identity.
An event its state has no edge for is a defect of ours and raises `BrokenTransaction`.
"""

from __future__ import annotations

from enum import Enum, auto

from streamapp.eos.protocol import NO_IDENTITY, ProducerIdentity
from streamapp.types import Partition

#: Kafka numbers a producer's records in a partition from 0 in 31 bits and begins again after the last.
_SEQUENCES = 2**31


class TransactionState(Enum):
    UNIDENTIFIED = auto()
    EMPTY = auto()
    #: Records were sent (not: answered), no offsets yet.
    RECORDS_SENT = auto()
    #: Offsets were sent, so the membership guards the transaction.
    OFFSETS_SENT = auto()
    COMMITTING = auto()
    ABORTING = auto()
    ENDED_BY_BROKER = auto()
    FENCED = auto()


class TransactionEvent(Enum):
    """What happened. Requests count when they are sent, because an unanswered one may have been carried out."""

    IDENTIFIED = auto()
    PRODUCE = auto()
    OFFSETS = auto()
    COMMIT = auto()
    ABORT = auto()
    ENDED = auto()
    ENDED_BY_BROKER = auto()
    FENCED = auto()


TRANSITIONS: dict[tuple[TransactionState, TransactionEvent], TransactionState] = {
    (TransactionState.UNIDENTIFIED, TransactionEvent.IDENTIFIED): TransactionState.EMPTY,
    (TransactionState.EMPTY, TransactionEvent.PRODUCE): TransactionState.RECORDS_SENT,
    (TransactionState.EMPTY, TransactionEvent.OFFSETS): TransactionState.OFFSETS_SENT,
    (TransactionState.EMPTY, TransactionEvent.ENDED_BY_BROKER): TransactionState.ENDED_BY_BROKER,
    (TransactionState.EMPTY, TransactionEvent.FENCED): TransactionState.FENCED,
    (TransactionState.RECORDS_SENT, TransactionEvent.PRODUCE): TransactionState.RECORDS_SENT,
    (TransactionState.RECORDS_SENT, TransactionEvent.OFFSETS): TransactionState.OFFSETS_SENT,
    (TransactionState.RECORDS_SENT, TransactionEvent.ABORT): TransactionState.ABORTING,
    (TransactionState.RECORDS_SENT, TransactionEvent.ENDED_BY_BROKER): TransactionState.ENDED_BY_BROKER,
    (TransactionState.RECORDS_SENT, TransactionEvent.FENCED): TransactionState.FENCED,
    (TransactionState.OFFSETS_SENT, TransactionEvent.PRODUCE): TransactionState.OFFSETS_SENT,
    (TransactionState.OFFSETS_SENT, TransactionEvent.OFFSETS): TransactionState.OFFSETS_SENT,
    (TransactionState.OFFSETS_SENT, TransactionEvent.COMMIT): TransactionState.COMMITTING,
    (TransactionState.OFFSETS_SENT, TransactionEvent.ABORT): TransactionState.ABORTING,
    (TransactionState.OFFSETS_SENT, TransactionEvent.ENDED_BY_BROKER): TransactionState.ENDED_BY_BROKER,
    (TransactionState.OFFSETS_SENT, TransactionEvent.FENCED): TransactionState.FENCED,
    (TransactionState.COMMITTING, TransactionEvent.COMMIT): TransactionState.COMMITTING,
    (TransactionState.COMMITTING, TransactionEvent.ENDED): TransactionState.EMPTY,
    (TransactionState.COMMITTING, TransactionEvent.ENDED_BY_BROKER): TransactionState.ENDED_BY_BROKER,
    (TransactionState.COMMITTING, TransactionEvent.FENCED): TransactionState.FENCED,
    (TransactionState.ABORTING, TransactionEvent.ABORT): TransactionState.ABORTING,
    (TransactionState.ABORTING, TransactionEvent.ENDED): TransactionState.EMPTY,
    (TransactionState.ABORTING, TransactionEvent.ENDED_BY_BROKER): TransactionState.ENDED_BY_BROKER,
    (TransactionState.ABORTING, TransactionEvent.FENCED): TransactionState.FENCED,
    (TransactionState.ENDED_BY_BROKER, TransactionEvent.ENDED_BY_BROKER): TransactionState.ENDED_BY_BROKER,
    (TransactionState.ENDED_BY_BROKER, TransactionEvent.IDENTIFIED): TransactionState.EMPTY,
    (TransactionState.ENDED_BY_BROKER, TransactionEvent.FENCED): TransactionState.FENCED,
    (TransactionState.FENCED, TransactionEvent.FENCED): TransactionState.FENCED,
}


class BrokenTransaction(RuntimeError):
    """The engine asked for a step its transaction cannot take: a defect of ours. The worker ends, nothing commits."""


class Transaction:
    """One producer's transactions, one after the other: the state, the identity and the sequences of the open one."""

    __slots__ = ("_sequences", "identity", "state")

    def __init__(self) -> None:
        self.state = TransactionState.UNIDENTIFIED
        self.identity = NO_IDENTITY
        self._sequences: dict[Partition, int] = {}

    def apply(self, event: TransactionEvent) -> None:
        """Take one step. `BrokenTransaction` if the table has no such edge; the state is then unchanged."""
        if event in (TransactionEvent.IDENTIFIED, TransactionEvent.ENDED):
            raise BrokenTransaction(f"{event.name} brings an identity: use next_identity().")
        self._step(event)

    def next_identity(self, event: TransactionEvent, identity: ProducerIdentity) -> None:
        """IDENTIFIED or ENDED: the answer brought the next transaction's identity, whose sequences begin at 0.

        It is one epoch on, or another producer id at epoch 0 once 32,767 epochs are used up.
        """
        if event not in (TransactionEvent.IDENTIFIED, TransactionEvent.ENDED):
            raise BrokenTransaction(f"{event.name} brings no identity: use apply().")
        if identity.producer_id < 0 or identity.epoch < 0:
            raise BrokenTransaction(f"The coordinator gave no usable identity: {identity}.")
        if self.state is not TransactionState.UNIDENTIFIED and not self._follows(identity):
            raise BrokenTransaction(f"{identity} cannot follow {self.identity}: an answer of another transaction?")
        self._step(event)
        self.identity = identity
        self._sequences.clear()

    def sequence(self, partition: Partition) -> int:
        """The sequence of the next record to this partition in this epoch."""
        return self._sequences.get(partition, 0)

    def advance(self, partition: Partition, record_count: int) -> None:
        """Count records that got a sequence; they keep it however often they are sent."""
        self._sequences[partition] = (self.sequence(partition) + record_count) % _SEQUENCES

    def _step(self, event: TransactionEvent) -> None:
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise BrokenTransaction(
                f"{event.name} cannot happen to a transaction that is {self.state.name} ({self.identity}). "
                "This is a defect; the worker ends and nothing is committed."
            )
        self.state = following

    def _follows(self, identity: ProducerIdentity) -> bool:
        # An InitProducerId that was repeated, or one after a time-out, may skip epochs; none ever goes back.
        same_producer = identity.producer_id == self.identity.producer_id
        return identity.epoch > self.identity.epoch if same_producer else True
