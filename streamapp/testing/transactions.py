"""The transaction coordinator in memory, transaction protocol v2 (KIP-890 part 2).

The states, their order and every error code are those of Kafka 4.1 (TransactionCoordinator, TransactionMetadata),
seen on a real broker by `tests/contract`. Answering and writing markers are apart: `EndTxn` is answered when the
outcome is decided, and the markers reach each partition when the broker gets to it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from streamapp.eos.protocol import (
    NO_IDENTITY,
    Code,
    EndTxn,
    EndTxnAnswer,
    InitProducerId,
    InitProducerIdAnswer,
    ProducerIdentity,
)
from streamapp.types import Partition

_EPOCH_LIMIT = 2**15 - 1
_NO_ID = -1


class BrokerTransactionState(Enum):
    """Where a transaction is; the first two have nothing decided, the next two have markers to write."""

    EMPTY = auto()
    ONGOING = auto()
    PREPARE_COMMIT = auto()
    PREPARE_ABORT = auto()
    COMPLETE_COMMIT = auto()
    COMPLETE_ABORT = auto()


_PREPARED = frozenset({BrokerTransactionState.PREPARE_COMMIT, BrokerTransactionState.PREPARE_ABORT})
_DECIDED = _PREPARED | {BrokerTransactionState.COMPLETE_COMMIT, BrokerTransactionState.COMPLETE_ABORT}

#: Where a transaction wrote: a partition, or a group's offsets.
Target = Partition | str


class BrokerTransaction:
    """What the coordinator keeps of one transactional id."""

    def __init__(self, transactional_id: str, producer_id: int) -> None:
        self.transactional_id = transactional_id
        self.producer_id = producer_id
        self.previous_producer_id = _NO_ID
        #: The id that takes over when the epochs of this one are used up, given with the last `EndTxn`.
        self.next_producer_id = _NO_ID
        self.epoch = -1
        self.last_epoch = -1
        self.timeout_ms = 0
        self.state = BrokerTransactionState.EMPTY
        #: In the order they joined (a dictionary keeps it, a set would not).
        self.targets: dict[Target, None] = {}
        self.started_ms = -1

    @property
    def identity(self) -> ProducerIdentity:
        return ProducerIdentity(self.producer_id, self.epoch)

    @property
    def exhausted(self) -> bool:
        """No epoch is left to give to a client: the very last one is kept for fencing."""
        return self.epoch >= _EPOCH_LIMIT - 1

    @property
    def next_identity(self) -> ProducerIdentity:
        """What the client uses from now on."""
        return self.identity if self.next_producer_id == _NO_ID else ProducerIdentity(self.next_producer_id, 0)

    def repeats(self, identity: ProducerIdentity) -> bool:
        """Whether an `EndTxn` of this identity is the one that was answered last."""
        over = self.previous_producer_id == identity.producer_id and self.epoch == 0
        rolled_over = over and identity.epoch == _EPOCH_LIMIT - 1
        return rolled_over or (self.producer_id == identity.producer_id and self.epoch == identity.epoch + 1)


class TransactionCoordinator:
    """Gives identities, follows transactions, decides their outcome, ends those that time out."""

    def __init__(
        self,
        write_markers: Callable[[BrokerTransaction, bool], None],
        *,
        timeout_max_ms: int = 900_000,
        first_id: int = 1000,
        first_epoch: int = 0,
    ) -> None:
        #: Called with the transaction and its outcome; must call `marker_written()` for each target, now or later.
        self._write_markers = write_markers
        self._timeout_max_ms = timeout_max_ms
        self._next_id = first_id
        #: Of a new transactional id; one near the limit makes the roll-over come soon.
        self._first_epoch = first_epoch
        self.transactions: dict[str, BrokerTransaction] = {}

    def init_producer_id(self, request: InitProducerId, now_ms: int) -> InitProducerIdAnswer:
        """Give an identity. Without one in the request every older holder is fenced; with one it is KIP-360."""
        if not 0 < request.transaction_timeout_ms <= self._timeout_max_ms:
            return InitProducerIdAnswer(Code.INVALID_TRANSACTION_TIMEOUT)
        transaction = self.transactions.get(request.transactional_id)
        if transaction is None:
            transaction = BrokerTransaction(request.transactional_id, self._take_id())
            transaction.epoch = self._first_epoch - 1
            self.transactions[request.transactional_id] = transaction
        asked = request.identity if request.identity != NO_IDENTITY else None
        if asked is not None and not _known(transaction, asked):
            return InitProducerIdAnswer(Code.PRODUCER_FENCED)
        if transaction.state in _PREPARED:
            return InitProducerIdAnswer(Code.CONCURRENT_TRANSACTIONS)
        if transaction.state is BrokerTransactionState.ONGOING:
            # Whoever asks, the open transaction is aborted first; the question is answered when it comes again.
            self._prepare(transaction, committed=False)
            return InitProducerIdAnswer(Code.CONCURRENT_TRANSACTIONS)
        return self._renew(transaction, asked, request.transaction_timeout_ms)

    def _renew(
        self, transaction: BrokerTransaction, asked: ProducerIdentity | None, timeout_ms: int
    ) -> InitProducerIdAnswer:
        if transaction.exhausted and (asked is None or asked.epoch == transaction.epoch):
            transaction.previous_producer_id = transaction.producer_id
            transaction.producer_id = self._take_id()
            transaction.last_epoch = transaction.epoch if asked is not None else -1
            transaction.epoch = 0
        elif asked is None:
            transaction.epoch, transaction.last_epoch = transaction.epoch + 1, -1
        elif transaction.epoch in (-1, asked.epoch):
            transaction.epoch, transaction.last_epoch = transaction.epoch + 1, transaction.epoch
        elif asked.epoch != transaction.last_epoch:
            return InitProducerIdAnswer(Code.PRODUCER_FENCED)
        transaction.state = BrokerTransactionState.EMPTY
        transaction.timeout_ms = timeout_ms
        transaction.started_ms = -1
        return InitProducerIdAnswer(Code.NONE, transaction.identity)

    def add(self, transactional_id: str, identity: ProducerIdentity, target: Target, now_ms: int) -> int:
        """Let a target into the transaction, which begins with the first. Protocol v2: the brokers ask, no client."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None or transaction.producer_id != identity.producer_id:
            return Code.INVALID_PRODUCER_ID_MAPPING
        if transaction.epoch != identity.epoch:
            return Code.PRODUCER_FENCED
        if transaction.state in _PREPARED:
            return Code.CONCURRENT_TRANSACTIONS
        if transaction.state is not BrokerTransactionState.ONGOING:
            transaction.state = BrokerTransactionState.ONGOING
            transaction.started_ms = now_ms
            transaction.targets.clear()
        transaction.targets[target] = None
        return Code.NONE

    def end(self, request: EndTxn) -> EndTxnAnswer:
        """Decide the outcome; a repeated request is recognised by the epoch having gone up by one."""
        transaction = self.transactions.get(request.transactional_id)
        if transaction is None:
            return EndTxnAnswer(Code.INVALID_PRODUCER_ID_MAPPING)
        repeats = transaction.repeats(request.identity)
        if transaction.producer_id != request.identity.producer_id and not repeats:
            return EndTxnAnswer(Code.INVALID_PRODUCER_ID_MAPPING)
        if repeats and transaction.state in _DECIDED:
            return _decided(transaction, request.committed)
        if request.identity.epoch != transaction.epoch or transaction.state in _PREPARED:
            return EndTxnAnswer(Code.PRODUCER_FENCED)
        if transaction.state is not BrokerTransactionState.ONGOING and request.committed:
            return EndTxnAnswer(Code.INVALID_TXN_STATE)
        # An abort with nothing in it is legal too and makes a new epoch, so that what is still on its way is refused.
        return EndTxnAnswer(Code.NONE, self._prepare(transaction, request.committed))

    def sweep(self, now_ms: int) -> None:
        """Abort what has been open for longer than its time-out. The broker does this every few seconds."""
        for transaction in self.transactions.values():
            if (
                transaction.state is BrokerTransactionState.ONGOING
                and now_ms - transaction.started_ms > transaction.timeout_ms
            ):
                self._prepare(transaction, committed=False)

    def marker_written(self, transaction: BrokerTransaction, target: Target) -> None:
        """A target has its marker; after the last one the transaction is complete."""
        transaction.targets.pop(target, None)
        if not transaction.targets and transaction.state in _PREPARED:
            self._complete(transaction)

    def _prepare(self, transaction: BrokerTransaction, committed: bool) -> ProducerIdentity:
        """Decide; returns what the client uses from now on."""
        if transaction.exhausted:
            transaction.next_producer_id = self._take_id()
        transaction.last_epoch = transaction.epoch
        transaction.epoch = min(transaction.epoch + 1, _EPOCH_LIMIT)
        answer = transaction.next_identity
        transaction.state = BrokerTransactionState.PREPARE_COMMIT if committed else BrokerTransactionState.PREPARE_ABORT
        if transaction.targets:
            self._write_markers(transaction, committed)
        else:
            self._complete(transaction)
        return answer

    def _complete(self, transaction: BrokerTransaction) -> None:
        committed = transaction.state is BrokerTransactionState.PREPARE_COMMIT
        transaction.state = (
            BrokerTransactionState.COMPLETE_COMMIT if committed else BrokerTransactionState.COMPLETE_ABORT
        )
        if transaction.next_producer_id != _NO_ID:
            transaction.previous_producer_id = transaction.producer_id
            transaction.producer_id, transaction.next_producer_id = transaction.next_producer_id, _NO_ID
            transaction.epoch = 0

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1


def _known(transaction: BrokerTransaction, asked: ProducerIdentity) -> bool:
    """Whether the identity can be this transactional id's, so that only its epoch has to be looked at."""
    if transaction.epoch == -1 or asked.producer_id == transaction.producer_id:
        return True
    return asked.producer_id == transaction.previous_producer_id and asked.epoch >= _EPOCH_LIMIT - 1


def _decided(transaction: BrokerTransaction, committed: bool) -> EndTxnAnswer:
    """The answer to an `EndTxn` that was carried out before."""
    if committed != (
        transaction.state in (BrokerTransactionState.PREPARE_COMMIT, BrokerTransactionState.COMPLETE_COMMIT)
    ):
        return EndTxnAnswer(Code.INVALID_TXN_STATE)
    if transaction.state in _PREPARED:
        return EndTxnAnswer(Code.CONCURRENT_TRANSACTIONS)
    return EndTxnAnswer(Code.NONE, transaction.identity)
