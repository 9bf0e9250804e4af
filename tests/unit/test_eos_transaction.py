"""The table of states: every edge there is, every edge there is not, identities and sequences."""

from __future__ import annotations

import itertools

import pytest

from streamapp.eos.protocol import ProducerIdentity
from streamapp.eos.transaction import TRANSITIONS, BrokenTransaction, Transaction, TransactionEvent, TransactionState
from streamapp.types import Partition

FIRST = ProducerIdentity(7, 0)
LEDGER = Partition("ledger", 0)

#: The shortest way into each state from the start.
WAYS: dict[TransactionState, list[TransactionEvent]] = {
    TransactionState.UNIDENTIFIED: [],
    TransactionState.EMPTY: [TransactionEvent.IDENTIFIED],
    TransactionState.RECORDS_SENT: [TransactionEvent.IDENTIFIED, TransactionEvent.PRODUCE],
    TransactionState.OFFSETS_SENT: [TransactionEvent.IDENTIFIED, TransactionEvent.PRODUCE, TransactionEvent.OFFSETS],
    TransactionState.COMMITTING: [TransactionEvent.IDENTIFIED, TransactionEvent.OFFSETS, TransactionEvent.COMMIT],
    TransactionState.ABORTING: [TransactionEvent.IDENTIFIED, TransactionEvent.PRODUCE, TransactionEvent.ABORT],
    TransactionState.ENDED_BY_BROKER: [TransactionEvent.IDENTIFIED, TransactionEvent.ENDED_BY_BROKER],
    TransactionState.FENCED: [TransactionEvent.IDENTIFIED, TransactionEvent.FENCED],
}


def take(transaction: Transaction, event: TransactionEvent) -> None:
    if event in (TransactionEvent.IDENTIFIED, TransactionEvent.ENDED):
        transaction.next_identity(event, ProducerIdentity(7, transaction.identity.epoch + 1))
    else:
        transaction.apply(event)


def transaction_in(state: TransactionState) -> Transaction:
    transaction = Transaction()
    for event in WAYS[state]:
        take(transaction, event)
    assert transaction.state is state
    return transaction


@pytest.mark.parametrize(("state", "event"), list(itertools.product(TransactionState, TransactionEvent)))
def test_a_step_is_in_the_table_or_a_loud_defect(state: TransactionState, event: TransactionEvent) -> None:
    transaction = transaction_in(state)
    if (state, event) in TRANSITIONS:
        take(transaction, event)
        assert transaction.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(BrokenTransaction, match="cannot happen"):
            take(transaction, event)
        assert transaction.state is state


def test_the_edges_that_the_design_forbids_are_missing() -> None:
    commits = {state for state, event in TRANSITIONS if event is TransactionEvent.COMMIT}
    assert commits == {TransactionState.OFFSETS_SENT, TransactionState.COMMITTING}, (
        "only a transaction with offsets in it commits"
    )
    leaves = {event for state, event in TRANSITIONS if state is TransactionState.COMMITTING}
    assert leaves == {
        TransactionEvent.COMMIT,
        TransactionEvent.ENDED,
        TransactionEvent.ENDED_BY_BROKER,
        TransactionEvent.FENCED,
    }, "a commit in doubt is never aborted"
    assert {following for (state, _), following in TRANSITIONS.items() if state is TransactionState.FENCED} == {
        TransactionState.FENCED
    }


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) == set(TransactionState) - {TransactionState.UNIDENTIFIED}
    assert {state for state, _ in TRANSITIONS} == set(TransactionState)


def test_sequences_count_records_and_begin_again_with_each_identity() -> None:
    transaction = transaction_in(TransactionState.EMPTY)
    transaction.advance(LEDGER, 3)
    transaction.advance(LEDGER, 2)
    assert transaction.sequence(LEDGER) == 5
    assert transaction.sequence(Partition("ledger", 1)) == 0
    for event in (TransactionEvent.OFFSETS, TransactionEvent.COMMIT, TransactionEvent.ENDED):
        take(transaction, event)
    assert transaction.sequence(LEDGER) == 0


def test_sequences_wrap_after_31_bits() -> None:
    transaction = transaction_in(TransactionState.EMPTY)
    transaction.advance(LEDGER, 2**31 - 1)
    transaction.advance(LEDGER, 2)
    assert transaction.sequence(LEDGER) == 1


@pytest.mark.parametrize("following", [ProducerIdentity(7, 6), ProducerIdentity(7, 9), ProducerIdentity(8, 0)])
def test_the_next_identity_is_a_later_epoch_or_another_producer(following: ProducerIdentity) -> None:
    transaction = Transaction()
    transaction.next_identity(TransactionEvent.IDENTIFIED, ProducerIdentity(7, 5))
    for event in (TransactionEvent.OFFSETS, TransactionEvent.COMMIT):
        transaction.apply(event)
    transaction.next_identity(TransactionEvent.ENDED, following)
    assert transaction.identity == following


@pytest.mark.parametrize(
    "stale", [ProducerIdentity(7, 5), ProducerIdentity(7, 4), ProducerIdentity(-1, -1), ProducerIdentity(8, -1)]
)
def test_an_identity_that_goes_back_is_a_loud_defect(stale: ProducerIdentity) -> None:
    transaction = Transaction()
    transaction.next_identity(TransactionEvent.IDENTIFIED, ProducerIdentity(7, 5))
    for event in (TransactionEvent.OFFSETS, TransactionEvent.COMMIT):
        transaction.apply(event)
    with pytest.raises(BrokenTransaction):
        transaction.next_identity(TransactionEvent.ENDED, stale)
    assert (transaction.state, transaction.identity) == (TransactionState.COMMITTING, ProducerIdentity(7, 5))


def test_identities_come_only_with_the_events_that_bring_them() -> None:
    transaction = Transaction()
    with pytest.raises(BrokenTransaction, match="next_identity"):
        transaction.apply(TransactionEvent.IDENTIFIED)
    with pytest.raises(BrokenTransaction, match="apply"):
        transaction.next_identity(TransactionEvent.PRODUCE, FIRST)
