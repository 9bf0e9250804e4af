"""The transaction as a table of states. Pure: it takes events, holds the identity and the sequences, does no I/O.

                                      identified
                 UNIDENTIFIED ───────────────────────▶ EMPTY ◀────────────────────────┐
                                                        │ │                           │
                                    produce ┌───────────┘ └──────────┐ offsets        │
                                            ▼                        ▼                │
                              produce ╭─ WRITTEN ────offsets────▶ BOUND ─╮ produce,   │
                                      ╰──▶  │                     │   │ ◀─╯ offsets   │
                                            │ abort         abort │   │ commit        │
                                            ▼                     │   ▼               │
                               abort ╭─ ABORTING ◀────────────────┘ COMMITTING ─╮     │
                                     ╰──▶  │  │                     │   │   ◀────╯     │
                                           │  └──────── ended ──────│───┴─ ended ─────┤
                                           │ ousted          ousted │    commit       │
          (also WRITTEN, BOUND,            ▼                        ▼                 │
           EMPTY) ───── ousted ─────────▶ OUSTED ─────────────── identified ──────────┘

          every state but UNIDENTIFIED ── fenced ──▶ FENCED   (terminal: another process has a newer epoch)

Three rules of the design are edges that are missing: nothing commits from WRITTEN (no transaction ends without an
offset in it, decision 4), nothing leaves COMMITTING but an answer (decision 7), nothing leaves FENCED (decision 5).
OUSTED: the broker ended the transaction without us, by time-out; what comes next is a new identity.
An event its state has no edge for is a defect of ours and raises `BrokenTransaction`.
"""

from __future__ import annotations

from enum import Enum, auto

from streamapp.eos.protocol import NO_IDENTITY, Identity
from streamapp.types import Partition

#: Kafka numbers a producer's records in a partition from 0 in 31 bits and begins again after the last.
_SEQUENCES = 2**31


class State(Enum):
    UNIDENTIFIED = auto()
    EMPTY = auto()
    #: Records were sent (not: answered), no offsets yet.
    WRITTEN = auto()
    #: Offsets were sent, so the membership guards the transaction.
    BOUND = auto()
    COMMITTING = auto()
    ABORTING = auto()
    OUSTED = auto()
    FENCED = auto()


class Event(Enum):
    """What happened. Requests count when they are sent, because an unanswered one may have been carried out."""

    IDENTIFIED = auto()
    PRODUCE = auto()
    OFFSETS = auto()
    COMMIT = auto()
    ABORT = auto()
    ENDED = auto()
    OUSTED = auto()
    FENCED = auto()


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.UNIDENTIFIED, Event.IDENTIFIED): State.EMPTY,
    (State.EMPTY, Event.PRODUCE): State.WRITTEN,
    (State.EMPTY, Event.OFFSETS): State.BOUND,
    (State.EMPTY, Event.OUSTED): State.OUSTED,
    (State.EMPTY, Event.FENCED): State.FENCED,
    (State.WRITTEN, Event.PRODUCE): State.WRITTEN,
    (State.WRITTEN, Event.OFFSETS): State.BOUND,
    (State.WRITTEN, Event.ABORT): State.ABORTING,
    (State.WRITTEN, Event.OUSTED): State.OUSTED,
    (State.WRITTEN, Event.FENCED): State.FENCED,
    (State.BOUND, Event.PRODUCE): State.BOUND,
    (State.BOUND, Event.OFFSETS): State.BOUND,
    (State.BOUND, Event.COMMIT): State.COMMITTING,
    (State.BOUND, Event.ABORT): State.ABORTING,
    (State.BOUND, Event.OUSTED): State.OUSTED,
    (State.BOUND, Event.FENCED): State.FENCED,
    (State.COMMITTING, Event.COMMIT): State.COMMITTING,
    (State.COMMITTING, Event.ENDED): State.EMPTY,
    (State.COMMITTING, Event.OUSTED): State.OUSTED,
    (State.COMMITTING, Event.FENCED): State.FENCED,
    (State.ABORTING, Event.ABORT): State.ABORTING,
    (State.ABORTING, Event.ENDED): State.EMPTY,
    (State.ABORTING, Event.OUSTED): State.OUSTED,
    (State.ABORTING, Event.FENCED): State.FENCED,
    (State.OUSTED, Event.OUSTED): State.OUSTED,
    (State.OUSTED, Event.IDENTIFIED): State.EMPTY,
    (State.OUSTED, Event.FENCED): State.FENCED,
    (State.FENCED, Event.FENCED): State.FENCED,
}


class BrokenTransaction(RuntimeError):
    """The engine asked for a step its transaction cannot take: a defect of ours. The worker ends, nothing commits."""


class Transaction:
    """One producer's transactions, one after the other: the state, the identity and the sequences of the open one."""

    __slots__ = ("_sequences", "identity", "state")

    def __init__(self) -> None:
        self.state = State.UNIDENTIFIED
        self.identity = NO_IDENTITY
        self._sequences: dict[Partition, int] = {}

    def apply(self, event: Event) -> None:
        """Take one step. `BrokenTransaction` if the table has no such edge; the state is then unchanged."""
        if event in (Event.IDENTIFIED, Event.ENDED):
            raise BrokenTransaction(f"{event.name} brings an identity: use next_identity().")
        self._step(event)

    def next_identity(self, event: Event, identity: Identity) -> None:
        """IDENTIFIED or ENDED: the answer brought the next transaction's identity, whose sequences begin at 0.

        It is one epoch on, or another producer id at epoch 0 once 32,767 epochs are used up.
        """
        if event not in (Event.IDENTIFIED, Event.ENDED):
            raise BrokenTransaction(f"{event.name} brings no identity: use apply().")
        if identity.producer_id < 0 or identity.epoch < 0:
            raise BrokenTransaction(f"The coordinator gave no usable identity: {identity}.")
        if self.state is not State.UNIDENTIFIED and not self._follows(identity):
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

    def _step(self, event: Event) -> None:
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise BrokenTransaction(
                f"{event.name} cannot happen to a transaction that is {self.state.name} ({self.identity}). "
                "This is a defect; the worker ends and nothing is committed."
            )
        self.state = following

    def _follows(self, identity: Identity) -> bool:
        # An InitProducerId that was repeated, or one after a time-out, may skip epochs; none ever goes back.
        same_producer = identity.producer_id == self.identity.producer_id
        return identity.epoch > self.identity.epoch if same_producer else True
