"""The commit cycle as a table of states. Pure: it takes events and sets the gate, and does no I/O.

                 assigned
    UNASSIGNED ───────────▶ RUNNING ◀──────────────────────────────────────────────┐
                             │  ▲ ▲                                                │
               due, requested│  │ │ nothing to commit                              │
                             ▼  │ │                                                │
                            CLOSING ◀──────────────── committed ───────────────┐   │
                             │    │                                            │   │
                       sealed│    └─ aborted ─▶ REWINDING ─── rewound ─────────┼──▶┤
                             ▼                    ▲  ▲  ▲                      │   │
                         IN_FLIGHT ── aborted ────┘  │  │                      │   │
                          │  │  │  └─ committed ─────┼──┼──────────────────────┼──▶┤
              enough wait │  │  │                    │  │                      │   │
                          ▼  │  └─ requested ─▶ CLOSING_NEXT ── committed ─────┘   │
                   OVERLAPPING ── requested ────────▲│  │ aborted                  │
                    │  │  └──────── committed ───────┼──┼──────────────────────────┘
                    │  └─ aborted ─▶ REWINDING       │  │
                    └─ cancelled (also IN_FLIGHT, CLOSING_NEXT) ─▶ IN_DOUBT ─ aborted ─▶ REWINDING

    every state ── revoked ──▶ UNASSIGNED        every state ── failed ──▶ ENDED  (the end)

| state        | units may start | a transaction is in flight | what it waits for                                   |
| UNASSIGNED   | no              | no                         | an assignment                                       |
| RUNNING      | yes             | no                         | a commit that is due                                |
| CLOSING      | no              | no                         | the units that run (the barrier)                    |
| IN_FLIGHT    | no              | yes                        | its outcome, or enough records to be worth starting |
| OVERLAPPING  | yes             | yes                        | its outcome; units belong to the next transaction   |
| CLOSING_NEXT | no              | yes                        | its outcome; then the next one is committed at once |
| IN_DOUBT     | no              | yes                        | the next commit, which aborts it                    |
| REWINDING    | no              | no                         | the abort; then tasks read on from what is committed|
| ENDED        | no              | no                         | nothing: nothing commits any more                   |

CLOSING leads on by SEALED whether every unit has finished or one was left out of the transaction: which of the two is
the barrier's decision. Events run one at a time (`Replay`) beside this table: it changes what the gate lets in and
never what a state means; nothing overlaps then.
An event that its state has no edge for is a defect of ours and raises `BrokenCycle`.
"""

from __future__ import annotations

from enum import Enum, auto

from streamapp.engine.gate import Gate


class CycleState(Enum):
    UNASSIGNED = auto()
    RUNNING = auto()
    CLOSING = auto()
    IN_FLIGHT = auto()
    OVERLAPPING = auto()
    CLOSING_NEXT = auto()
    IN_DOUBT = auto()
    REWINDING = auto()
    ENDED = auto()


class CycleEvent(Enum):
    #: Tasks are ready, with their tables and their offsets.
    ASSIGNED = auto()
    #: The interval is over; where a transaction is in flight, units go on meanwhile.
    DUE = auto()
    #: A commit is wanted as soon as the running units have finished: no further one starts before.
    REQUESTED = auto()
    #: Behind the barrier: there is nothing to commit.
    NOTHING = auto()
    #: Behind the barrier: what has finished is parted from what will.
    SEALED = auto()
    #: So many records wait that units start beside the transaction in flight.
    ENOUGH_WAIT = auto()
    COMMITTED = auto()
    #: The transaction is to be aborted, or was.
    ABORTED = auto()
    #: Everything that was not committed is forgotten.
    REWOUND = auto()
    #: Who waited for the commit was cancelled.
    CANCELLED = auto()
    #: The partitions go, or the seat is lost.
    REVOKED = auto()
    #: An error ends the worker.
    FAILED = auto()


_FROM_ANYWHERE = {CycleEvent.REVOKED: CycleState.UNASSIGNED, CycleEvent.FAILED: CycleState.ENDED}

TRANSITIONS: dict[tuple[CycleState, CycleEvent], CycleState] = {
    **{(state, event): to for state in CycleState for event, to in _FROM_ANYWHERE.items()},
    # What is due stays due: an edge that does not move.
    **{(state, event): state for state in CycleState for event in (CycleEvent.DUE, CycleEvent.REQUESTED)},
    (CycleState.UNASSIGNED, CycleEvent.ASSIGNED): CycleState.RUNNING,
    (CycleState.RUNNING, CycleEvent.DUE): CycleState.CLOSING,
    (CycleState.RUNNING, CycleEvent.REQUESTED): CycleState.CLOSING,
    (CycleState.CLOSING, CycleEvent.NOTHING): CycleState.RUNNING,
    (CycleState.CLOSING, CycleEvent.SEALED): CycleState.IN_FLIGHT,
    (CycleState.CLOSING, CycleEvent.ABORTED): CycleState.REWINDING,
    (CycleState.CLOSING, CycleEvent.CANCELLED): CycleState.CLOSING,
    (CycleState.IN_FLIGHT, CycleEvent.REQUESTED): CycleState.CLOSING_NEXT,
    (CycleState.IN_FLIGHT, CycleEvent.ENOUGH_WAIT): CycleState.OVERLAPPING,
    (CycleState.IN_FLIGHT, CycleEvent.COMMITTED): CycleState.RUNNING,
    (CycleState.IN_FLIGHT, CycleEvent.ABORTED): CycleState.REWINDING,
    (CycleState.IN_FLIGHT, CycleEvent.CANCELLED): CycleState.IN_DOUBT,
    (CycleState.OVERLAPPING, CycleEvent.REQUESTED): CycleState.CLOSING_NEXT,
    (CycleState.OVERLAPPING, CycleEvent.COMMITTED): CycleState.RUNNING,
    (CycleState.OVERLAPPING, CycleEvent.ABORTED): CycleState.REWINDING,
    (CycleState.OVERLAPPING, CycleEvent.CANCELLED): CycleState.IN_DOUBT,
    (CycleState.CLOSING_NEXT, CycleEvent.COMMITTED): CycleState.CLOSING,
    (CycleState.CLOSING_NEXT, CycleEvent.ABORTED): CycleState.REWINDING,
    (CycleState.CLOSING_NEXT, CycleEvent.CANCELLED): CycleState.IN_DOUBT,
    (CycleState.IN_DOUBT, CycleEvent.ABORTED): CycleState.REWINDING,
    (CycleState.IN_DOUBT, CycleEvent.CANCELLED): CycleState.IN_DOUBT,
    (CycleState.REWINDING, CycleEvent.ABORTED): CycleState.REWINDING,
    (CycleState.REWINDING, CycleEvent.CANCELLED): CycleState.REWINDING,
    (CycleState.REWINDING, CycleEvent.REWOUND): CycleState.RUNNING,
    # Who waits for a commit may be cancelled when it is over already.
    (CycleState.RUNNING, CycleEvent.CANCELLED): CycleState.RUNNING,
    (CycleState.UNASSIGNED, CycleEvent.CANCELLED): CycleState.UNASSIGNED,
    # ENDED is the end: whatever was under way comes to nothing.
    **{(CycleState.ENDED, event): CycleState.ENDED for event in CycleEvent},
}

#: Units may start.
OPEN = frozenset({CycleState.RUNNING, CycleState.OVERLAPPING})
#: A transaction was sealed, and is neither committed nor aborted.
IN_FLIGHT = frozenset({CycleState.IN_FLIGHT, CycleState.OVERLAPPING, CycleState.CLOSING_NEXT, CycleState.IN_DOUBT})
#: Of those, what is waited for: its outcome moves the cycle.
AWAITED = IN_FLIGHT - {CycleState.IN_DOUBT}


class BrokenCycle(RuntimeError):
    """The engine took a step that its commit cycle does not have: a defect of ours. The worker ends."""


class CommitCycle:
    """The state of one worker's commit cycle. What the gate lets through follows from it, and from nothing else."""

    def __init__(self, gate: Gate) -> None:
        self.state = CycleState.UNASSIGNED
        self._gate = gate

    def apply(self, event: CycleEvent) -> bool:
        """Take one step and set the gate. True: units could not start before, and can now.

        `BrokenCycle` if the table has no such edge; nothing is changed then.
        """
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise BrokenCycle(
                f"{event.name} cannot happen to a commit cycle that is {self.state.name}. This is a defect; the worker "
                "ends and nothing of it is committed."
            )
        if following is self.state:
            return False
        self.state = following
        gate = self._gate
        gate.hurried = following in IN_FLIGHT
        if following not in OPEN:
            gate.close()
            return False
        was_closed = not gate.is_open
        gate.open()
        return was_closed

    def closes(self, event: CycleEvent) -> bool:
        """Whether units may start now, and could not after this event."""
        return self.state in OPEN and TRANSITIONS.get((self.state, event)) not in OPEN

    @property
    def is_in_flight(self) -> bool:
        """Whether a transaction was sealed, and is neither committed nor aborted."""
        return self.state in IN_FLIGHT

    @property
    def is_awaited(self) -> bool:
        """Whether the outcome of a transaction in flight is waited for; False once it was given up here."""
        return self.state in AWAITED

    @property
    def has_ended(self) -> bool:
        """Whether an error has ended the worker."""
        return self.state is CycleState.ENDED
