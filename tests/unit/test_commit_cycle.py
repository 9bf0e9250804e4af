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
    Event,
    State,
)
from streamapp.engine.gate import Gate

#: The shortest way into each state from the start.
WAYS: dict[State, list[Event]] = {
    State.UNASSIGNED: [],
    State.RUNNING: [Event.ASSIGNED],
    State.CLOSING: [Event.ASSIGNED, Event.DUE],
    State.IN_FLIGHT: [Event.ASSIGNED, Event.DUE, Event.SEALED],
    State.OVERLAPPING: [Event.ASSIGNED, Event.DUE, Event.SEALED, Event.ENOUGH_WAIT],
    State.CLOSING_NEXT: [Event.ASSIGNED, Event.DUE, Event.SEALED, Event.REQUESTED],
    State.IN_DOUBT: [Event.ASSIGNED, Event.DUE, Event.SEALED, Event.CANCELLED],
    State.REWINDING: [Event.ASSIGNED, Event.DUE, Event.ABORTED],
    State.ENDED: [Event.FAILED],
}
#: Every way from one state to another that the docstring draws. Written down a second time, so that a slip shows.
DRAWN: dict[State, dict[Event, State]] = {
    State.UNASSIGNED: {Event.ASSIGNED: State.RUNNING},
    State.RUNNING: {Event.DUE: State.CLOSING, Event.REQUESTED: State.CLOSING},
    State.CLOSING: {Event.NOTHING: State.RUNNING, Event.SEALED: State.IN_FLIGHT, Event.ABORTED: State.REWINDING},
    State.IN_FLIGHT: {
        Event.ENOUGH_WAIT: State.OVERLAPPING,
        Event.REQUESTED: State.CLOSING_NEXT,
        Event.COMMITTED: State.RUNNING,
        Event.ABORTED: State.REWINDING,
        Event.CANCELLED: State.IN_DOUBT,
    },
    State.OVERLAPPING: {
        Event.REQUESTED: State.CLOSING_NEXT,
        Event.COMMITTED: State.RUNNING,
        Event.ABORTED: State.REWINDING,
        Event.CANCELLED: State.IN_DOUBT,
    },
    State.CLOSING_NEXT: {
        Event.COMMITTED: State.CLOSING,
        Event.ABORTED: State.REWINDING,
        Event.CANCELLED: State.IN_DOUBT,
    },
    State.IN_DOUBT: {Event.ABORTED: State.REWINDING},
    State.REWINDING: {Event.REWOUND: State.RUNNING},
    State.ENDED: {},
}


def cycle_in(state: State) -> tuple[CommitCycle, Gate]:
    gate = Gate()
    cycle = CommitCycle(gate)
    for event in WAYS[state]:
        cycle.apply(event)
    assert cycle.state is state
    return cycle, gate


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_a_step_is_in_the_table_or_a_loud_defect(state: State, event: Event) -> None:
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
    for state in set(State) - {State.ENDED}:
        drawn[state, Event.FAILED] = State.ENDED
        if state is not State.UNASSIGNED:
            drawn[state, Event.REVOKED] = State.UNASSIGNED
    assert {step: to for step, to in TRANSITIONS.items() if to is not step[0]} == drawn


def test_what_the_guarantee_forbids_is_missing() -> None:
    sealed_from = {state for state, event in TRANSITIONS if event is Event.SEALED} - {State.ENDED}
    assert sealed_from == {State.CLOSING}, "nothing is sealed while units may start, or while another one is in flight"
    settled = {state for state, event in TRANSITIONS if event is Event.COMMITTED} - {State.ENDED}
    assert settled == AWAITED, "what was given up here is never taken for committed"
    left = {to for (state, event), to in TRANSITIONS.items() if state is State.IN_DOUBT}
    assert State.RUNNING not in left, "nothing goes on upon what is in doubt"
    assert {to for (state, _), to in TRANSITIONS.items() if state is State.ENDED} == {State.ENDED}


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State)


@given(st.lists(st.sampled_from(list(Event)), max_size=40))
def test_the_gate_follows_from_the_state_alone(events: list[Event]) -> None:
    gate = Gate()
    cycle = CommitCycle(gate)
    for event in events:
        try:
            cycle.apply(event)
        except BrokenCycle:
            assert (cycle.state, event) not in TRANSITIONS
        assert gate.is_open is (cycle.state in OPEN)
        assert gate.hurried is (cycle.state in IN_FLIGHT)
