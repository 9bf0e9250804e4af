"""The table of states: every edge there is, every edge there is not, identities and sequences."""

from __future__ import annotations

import itertools

import pytest

from streamapp.eos.protocol import Identity
from streamapp.eos.transaction import TRANSITIONS, BrokenTransaction, Event, State, Transaction
from streamapp.types import Partition

FIRST = Identity(7, 0)
LEDGER = Partition("ledger", 0)

#: The shortest way into each state from the start.
WAYS: dict[State, list[Event]] = {
    State.UNIDENTIFIED: [],
    State.EMPTY: [Event.IDENTIFIED],
    State.WRITTEN: [Event.IDENTIFIED, Event.PRODUCE],
    State.BOUND: [Event.IDENTIFIED, Event.PRODUCE, Event.OFFSETS],
    State.COMMITTING: [Event.IDENTIFIED, Event.OFFSETS, Event.COMMIT],
    State.ABORTING: [Event.IDENTIFIED, Event.PRODUCE, Event.ABORT],
    State.OUSTED: [Event.IDENTIFIED, Event.OUSTED],
    State.FENCED: [Event.IDENTIFIED, Event.FENCED],
}


def take(transaction: Transaction, event: Event) -> None:
    if event in (Event.IDENTIFIED, Event.ENDED):
        transaction.next_identity(event, Identity(7, transaction.identity.epoch + 1))
    else:
        transaction.apply(event)


def transaction_in(state: State) -> Transaction:
    transaction = Transaction()
    for event in WAYS[state]:
        take(transaction, event)
    assert transaction.state is state
    return transaction


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_a_step_is_in_the_table_or_a_loud_defect(state: State, event: Event) -> None:
    transaction = transaction_in(state)
    if (state, event) in TRANSITIONS:
        take(transaction, event)
        assert transaction.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(BrokenTransaction, match="cannot happen"):
            take(transaction, event)
        assert transaction.state is state


def test_the_edges_that_the_design_forbids_are_missing() -> None:
    commits = {state for state, event in TRANSITIONS if event is Event.COMMIT}
    assert commits == {State.BOUND, State.COMMITTING}, "only a transaction with offsets in it commits"
    leaves = {event for state, event in TRANSITIONS if state is State.COMMITTING}
    assert leaves == {Event.COMMIT, Event.ENDED, Event.OUSTED, Event.FENCED}, "a commit in doubt is never aborted"
    assert {following for (state, _), following in TRANSITIONS.items() if state is State.FENCED} == {State.FENCED}


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(State) - {State.UNIDENTIFIED}
    assert {state for state, _ in TRANSITIONS} == set(State)


def test_sequences_count_records_and_begin_again_with_each_identity() -> None:
    transaction = transaction_in(State.EMPTY)
    transaction.advance(LEDGER, 3)
    transaction.advance(LEDGER, 2)
    assert transaction.sequence(LEDGER) == 5
    assert transaction.sequence(Partition("ledger", 1)) == 0
    for event in (Event.OFFSETS, Event.COMMIT, Event.ENDED):
        take(transaction, event)
    assert transaction.sequence(LEDGER) == 0


def test_sequences_wrap_after_31_bits() -> None:
    transaction = transaction_in(State.EMPTY)
    transaction.advance(LEDGER, 2**31 - 1)
    transaction.advance(LEDGER, 2)
    assert transaction.sequence(LEDGER) == 1


@pytest.mark.parametrize("following", [Identity(7, 6), Identity(7, 9), Identity(8, 0)])
def test_the_next_identity_is_a_later_epoch_or_another_producer(following: Identity) -> None:
    transaction = Transaction()
    transaction.next_identity(Event.IDENTIFIED, Identity(7, 5))
    for event in (Event.OFFSETS, Event.COMMIT):
        transaction.apply(event)
    transaction.next_identity(Event.ENDED, following)
    assert transaction.identity == following


@pytest.mark.parametrize("stale", [Identity(7, 5), Identity(7, 4), Identity(-1, -1), Identity(8, -1)])
def test_an_identity_that_goes_back_is_a_loud_defect(stale: Identity) -> None:
    transaction = Transaction()
    transaction.next_identity(Event.IDENTIFIED, Identity(7, 5))
    for event in (Event.OFFSETS, Event.COMMIT):
        transaction.apply(event)
    with pytest.raises(BrokenTransaction):
        transaction.next_identity(Event.ENDED, stale)
    assert (transaction.state, transaction.identity) == (State.COMMITTING, Identity(7, 5))


def test_identities_come_only_with_the_events_that_bring_them() -> None:
    transaction = Transaction()
    with pytest.raises(BrokenTransaction, match="next_identity"):
        transaction.apply(Event.IDENTIFIED)
    with pytest.raises(BrokenTransaction, match="apply"):
        transaction.next_identity(Event.PRODUCE, FIRST)
