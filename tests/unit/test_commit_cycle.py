"""The table of the commit cycle: every edge there is, every edge there is not, and what the gate lets through."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.engine.commit_cycle import (
    AWAITED,
    IN_FLIGHT,
    OPEN,
    TRANSITIONS,
    BrokenCycle,
    CommitCycle,
    CycleEvent,
    CycleState,
)
from streamapp.engine.gate import Gate

#: The shortest way into each state from the start.
WAYS: dict[CycleState, list[CycleEvent]] = {
    CycleState.UNASSIGNED: [],
    CycleState.RUNNING: [CycleEvent.ASSIGNED],
    CycleState.CLOSING: [CycleEvent.ASSIGNED, CycleEvent.DUE],
    CycleState.IN_FLIGHT: [CycleEvent.ASSIGNED, CycleEvent.DUE, CycleEvent.SEALED],
    CycleState.OVERLAPPING: [CycleEvent.ASSIGNED, CycleEvent.DUE, CycleEvent.SEALED, CycleEvent.ENOUGH_WAIT],
    CycleState.CLOSING_NEXT: [CycleEvent.ASSIGNED, CycleEvent.DUE, CycleEvent.SEALED, CycleEvent.REQUESTED],
    CycleState.IN_DOUBT: [CycleEvent.ASSIGNED, CycleEvent.DUE, CycleEvent.SEALED, CycleEvent.CANCELLED],
    CycleState.REWINDING: [CycleEvent.ASSIGNED, CycleEvent.DUE, CycleEvent.ABORTED],
    CycleState.ENDED: [CycleEvent.FAILED],
}
#: Every way from one state to another that the docstring draws. Written down a second time, so that a slip shows.
DRAWN: dict[CycleState, dict[CycleEvent, CycleState]] = {
    CycleState.UNASSIGNED: {CycleEvent.ASSIGNED: CycleState.RUNNING},
    CycleState.RUNNING: {CycleEvent.DUE: CycleState.CLOSING, CycleEvent.REQUESTED: CycleState.CLOSING},
    CycleState.CLOSING: {
        CycleEvent.NOTHING: CycleState.RUNNING,
        CycleEvent.SEALED: CycleState.IN_FLIGHT,
        CycleEvent.ABORTED: CycleState.REWINDING,
    },
    CycleState.IN_FLIGHT: {
        CycleEvent.ENOUGH_WAIT: CycleState.OVERLAPPING,
        CycleEvent.REQUESTED: CycleState.CLOSING_NEXT,
        CycleEvent.COMMITTED: CycleState.RUNNING,
        CycleEvent.ABORTED: CycleState.REWINDING,
        CycleEvent.CANCELLED: CycleState.IN_DOUBT,
    },
    CycleState.OVERLAPPING: {
        CycleEvent.REQUESTED: CycleState.CLOSING_NEXT,
        CycleEvent.COMMITTED: CycleState.RUNNING,
        CycleEvent.ABORTED: CycleState.REWINDING,
        CycleEvent.CANCELLED: CycleState.IN_DOUBT,
    },
    CycleState.CLOSING_NEXT: {
        CycleEvent.COMMITTED: CycleState.CLOSING,
        CycleEvent.ABORTED: CycleState.REWINDING,
        CycleEvent.CANCELLED: CycleState.IN_DOUBT,
    },
    CycleState.IN_DOUBT: {CycleEvent.ABORTED: CycleState.REWINDING},
    CycleState.REWINDING: {CycleEvent.REWOUND: CycleState.RUNNING},
    CycleState.ENDED: {},
}


def cycle_in(state: CycleState) -> tuple[CommitCycle, Gate]:
    gate = Gate()
    cycle = CommitCycle(gate)
    for event in WAYS[state]:
        cycle.apply(event)
    assert cycle.state is state
    return cycle, gate


@pytest.mark.parametrize(("state", "event"), list(itertools.product(CycleState, CycleEvent)))
def test_a_step_is_in_the_table_or_a_loud_defect(state: CycleState, event: CycleEvent) -> None:
    cycle, gate = cycle_in(state)
    was_open = gate.is_open
    if (state, event) not in TRANSITIONS:
        with pytest.raises(BrokenCycle, match="cannot happen"):
            cycle.apply(event)
        assert cycle.state is state and gate.is_open is was_open
        return
    opened = cycle.apply(event)
    assert cycle.state is TRANSITIONS[state, event]
    assert gate.is_open is (cycle.state in OPEN)
    assert opened is (gate.is_open and not was_open)


def test_the_table_moves_as_it_is_drawn() -> None:
    drawn = {(state, event): to for state, edges in DRAWN.items() for event, to in edges.items()}
    for state in set(CycleState) - {CycleState.ENDED}:
        drawn[state, CycleEvent.FAILED] = CycleState.ENDED
        if state is not CycleState.UNASSIGNED:
            drawn[state, CycleEvent.REVOKED] = CycleState.UNASSIGNED
    assert {step: to for step, to in TRANSITIONS.items() if to is not step[0]} == drawn


def test_what_the_guarantee_forbids_is_missing() -> None:
    sealed_from = {state for state, event in TRANSITIONS if event is CycleEvent.SEALED} - {CycleState.ENDED}
    assert sealed_from == {CycleState.CLOSING}, (
        "nothing is sealed while units may start, or while another one is in flight"
    )
    settled = {state for state, event in TRANSITIONS if event is CycleEvent.COMMITTED} - {CycleState.ENDED}
    assert settled == AWAITED, "what was given up here is never taken for committed"
    left = {to for (state, event), to in TRANSITIONS.items() if state is CycleState.IN_DOUBT}
    assert CycleState.RUNNING not in left, "nothing goes on upon what is in doubt"
    assert {to for (state, _), to in TRANSITIONS.items() if state is CycleState.ENDED} == {CycleState.ENDED}


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(CycleState)
    assert {state for state, _ in TRANSITIONS} == set(CycleState)


@given(st.lists(st.sampled_from(list(CycleEvent)), max_size=40))
def test_the_gate_follows_from_the_state_alone(events: list[CycleEvent]) -> None:
    gate = Gate()
    cycle = CommitCycle(gate)
    for event in events:
        try:
            cycle.apply(event)
        except BrokenCycle:
            assert (cycle.state, event) not in TRANSITIONS
        assert gate.is_open is (cycle.state in OPEN)
        assert gate.hurried is (cycle.state in IN_FLIGHT)
