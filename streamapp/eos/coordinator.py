"""The conversation with the transaction coordinator and the group coordinator, one transaction at a time.

Every request is repeated unchanged until it is answered (decision 7), and every answer moves the table of states.
The producer appends records; this says under which identity, binds the consumed offsets, and ends the transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn, TypeVar

from streamapp.clock import Clock
from streamapp.eos.backoff import Backoff
from streamapp.eos.cluster import Cluster, NoAnswer
from streamapp.eos.protocol import (
    NO_IDENTITY,
    Code,
    EndTxn,
    InitProducerId,
    Membership,
    ProducerIdentity,
    TxnOffsetCommit,
)
from streamapp.eos.remedies import REPEATED, ErrorRemedy, UnexpectedCode, change, named, remedy, worst
from streamapp.eos.transaction import Transaction, TransactionEvent, TransactionState
from streamapp.errors import ConfigurationError, Fenced, InstanceFenced, TransactionAborted
from streamapp.types import Partition

Answer = TypeVar("Answer")

#: Refusals of a commit after which it is certain that the transaction was not committed.
_CERTAINLY_NOT = frozenset({Code.INVALID_TXN_STATE, Code.TRANSACTION_ABORTABLE})


class Coordinator:
    """One transactional id's seat at the coordinators. Used by one coroutine at a time."""

    def __init__(self, cluster: Cluster, transactional_id: str, transaction_timeout_s: float, clock: Clock) -> None:
        self.transactional_id = transactional_id
        self.transaction = Transaction()
        self._cluster = cluster
        self._clock = clock
        self._timeout_ms = int(transaction_timeout_s * 1000)

    async def open(self) -> None:
        """Take the transactional id: every older holder is fenced, its open transaction is aborted first."""
        await self._identify(NO_IDENTITY)

    async def ask(self) -> None:
        """Is somebody newer under this transactional id (decisions 5 and 7)? Returns with the next identity if not.

        Whatever was open is aborted by this. `InstanceFenced` if somebody is: this process ends and never rejoins.
        One case looks the same and is none: the coordinator keeps the last epoch in memory only, so after a time-out
        *and* a change of coordinator it answers 90 without any twin. Ending is safe then, too: the next start goes on.
        """
        if self.transaction.state is TransactionState.FENCED:  # asked before, and the answer can only be the same
            raise InstanceFenced(_newer(self.transactional_id, Code.PRODUCER_FENCED))
        self.transaction.apply(TransactionEvent.ENDED_BY_BROKER)
        await self._identify(self.transaction.identity)

    def produce_sent(self) -> None:
        """Records are about to leave for the brokers: from now on there is something to abort."""
        self.transaction.apply(TransactionEvent.PRODUCE)

    async def bind(self, offsets: Mapping[Partition, int], membership: Membership) -> None:
        """Put the consumed offsets into the transaction, guarded by the membership."""
        self.transaction.apply(TransactionEvent.OFFSETS)
        request = TxnOffsetCommit(self.transactional_id, self.transaction.identity, membership, offsets)

        async def once() -> int:
            answer = await self._cluster.commit_offsets(request)
            return worst(answer.get(partition, Code.UNKNOWN_SERVER_ERROR) for partition in offsets)

        what = f"putting the offsets of {membership.group} into the transaction"
        code = await self._settled(once, int, self.patience(what))
        if code != Code.NONE:
            await self.fail(code, f"The offsets of {membership} were refused")

    async def end(self, *, committed: bool) -> None:
        """End the transaction. Without an answer it is asked again, for as long as it takes: never guessed.

        After a commit `TransactionAborted` says that it certainly did not happen; `InstanceFenced` says nothing about
        it, because the newer holder of the id goes on from whatever is committed.
        """
        self.transaction.apply(TransactionEvent.COMMIT if committed else TransactionEvent.ABORT)
        request = EndTxn(self.transactional_id, self.transaction.identity, committed)
        what = f"ending the transaction ({'commit' if committed else 'abort'})"
        answer = await self._settled(
            lambda: self._cluster.end_transaction(request), lambda it: it.error, Backoff(self._clock, what)
        )
        if answer.error == Code.NONE:
            self.transaction.next_identity(TransactionEvent.ENDED, answer.identity)
            return
        await self._not_ended(answer.error, committed)

    async def fail(self, code: int, what: str) -> NoReturn:
        """Raise what a refused Produce or TxnOffsetCommit means; asks first where only the coordinator can tell."""
        match remedy(code):
            case ErrorRemedy.ABORT:
                raise TransactionAborted(f"{what}: {named(code)}. The transaction has no effect; its events run again.")
            case ErrorRemedy.ASK:
                await self.ask()
                raise TransactionAborted(
                    f"{what}: {named(code)}; nobody newer holds {self.transactional_id}, so the transaction timed out "
                    "or was dropped by the broker. It has no effect; its events run again."
                )
            case ErrorRemedy.UNSEATED:
                raise Fenced(f"{what}: {named(code)}. The partitions have a new owner; what was open is dropped.")
            case ErrorRemedy.CONFIGURE:
                raise ConfigurationError(f"{what}: {named(code)}. Nothing is committed. {change(code)}")
        raise UnexpectedCode(f"{what}: {named(code)}, which has no meaning here. Nothing is committed.")

    def patience(self, what: str) -> Backoff:
        """How long a request before the commit point is repeated: after the time-out the broker aborts anyway."""
        return Backoff(self._clock, what, limit_s=self._timeout_ms / 1000, on_limit=TransactionAborted)

    async def _identify(self, identity: ProducerIdentity) -> None:
        request = InitProducerId(self.transactional_id, self._timeout_ms, identity)
        patience = Backoff(self._clock, f"asking for the producer identity of {self.transactional_id}")
        answer = await self._settled(lambda: self._cluster.init_producer_id(request), lambda it: it.error, patience)
        match remedy(answer.error):
            case ErrorRemedy.DONE:
                self.transaction.next_identity(TransactionEvent.IDENTIFIED, answer.identity)
            case ErrorRemedy.ASK if self.transaction.state is not TransactionState.UNIDENTIFIED:
                self.transaction.apply(TransactionEvent.FENCED)
                raise InstanceFenced(_newer(self.transactional_id, answer.error))
            case _:
                raise ConfigurationError(
                    f"The transaction coordinator refused {self.transactional_id}: {named(answer.error)}. Nothing is "
                    f"committed. {change(answer.error)}"
                )

    async def _not_ended(self, code: int, committed: bool) -> None:
        if remedy(code) is ErrorRemedy.CONFIGURE:
            raise ConfigurationError(f"The coordinator refused to end the transaction: {named(code)}. {change(code)}")
        await self.ask()
        if not committed:
            return
        if code not in _CERTAINLY_NOT:
            raise UnexpectedCode(
                f"A commit in doubt was answered {named(code)}, and yet nobody newer holds {self.transactional_id}. "
                "The worker ends; at the next start the committed offsets say what happened."
            )
        raise TransactionAborted(
            f"The broker had ended the transaction before the commit ({named(code)}): it was open for longer than "
            "TRANSACTION_TIMEOUT. It has no effect; its events run again."
        )

    async def _settled(
        self, call: Callable[[], Awaitable[Answer]], code_of: Callable[[Answer], int], patience: Backoff
    ) -> Answer:
        """Repeat a call unchanged until it is answered with something that repeating cannot change."""
        while True:
            try:
                answer = await call()
            except NoAnswer as exc:
                reason = str(exc)
            else:
                if remedy(code_of(answer)) not in REPEATED:
                    return answer
                reason = named(code_of(answer))
            await patience.pause(reason)


def _newer(transactional_id: str, code: int) -> str:
    return (
        f"Somebody newer holds {transactional_id} ({named(code)}). This process drops what it has open and must end; "
        "give each worker an INSTANCE of its own."
    )
