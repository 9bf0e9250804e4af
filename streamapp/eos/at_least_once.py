"""At least once: the same linear producer without a transaction around it.

    produce     every batch, acks=all; without an answer it is sent again, and may then be there twice
    bind        the consumed offsets, as the group's own commit with the membership: a stale seat is refused here, too
    end         nothing: the offsets are the commit point
    abort       forgets what was appended; what was produced before it is visible, and its events run again

So a crash or an abort between the two repeats outputs, and loses none. The order is what makes it so: offsets only
after every record they stand for was acknowledged, and the stores' disk only after the offsets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, Protocol

from streamapp.clock import SYSTEM_CLOCK, Clock
from streamapp.eos.backoff import Backoff
from streamapp.eos.batches import Compression
from streamapp.eos.cluster import Cluster, NoAnswer
from streamapp.eos.producer import BATCH_BYTES, Producer
from streamapp.eos.protocol import NO_IDENTITY, Code, Membership, OffsetCommit, OffsetCommitAnswer
from streamapp.eos.remedies import REPEATED, ErrorRemedy, UnexpectedCode, named, remedy, worst
from streamapp.eos.transaction import Transaction, TransactionEvent, TransactionState
from streamapp.errors import ConfigurationError, Fenced, TransactionAborted
from streamapp.types import Partition


class AtLeastOnceCluster(Cluster, Protocol):
    """A cluster that also takes a group's offsets outside of a transaction."""

    async def commit_plain_offsets(self, request: OffsetCommit) -> OffsetCommitAnswer:
        """To the group's coordinator."""


class AtLeastOnceProducer(Producer):
    """`Producer` for `at_least_once`; `commit()` runs on it unchanged. `limit_s` bounds each wait before its end."""

    def __init__(
        self,
        cluster: AtLeastOnceCluster,
        *,
        limit_s: float,
        compression: Compression = "none",
        batch_bytes: int = BATCH_BYTES,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        coordinator = PlainCoordinator(cluster, limit_s, clock)
        super().__init__(
            cluster,
            None,
            transaction_timeout_s=limit_s,
            compression=compression,
            batch_bytes=batch_bytes,
            clock=clock,
            coordinator=coordinator,
        )

    async def start(self) -> None:
        """Nothing to take: without a transactional id nobody is fenced."""

    async def confirm(self) -> None:
        """Drop what was appended; there is no id that somebody newer could hold."""
        self.forget()


class PlainCoordinator:
    """What `Coordinator` is to a transaction, for offsets alone."""

    def __init__(self, cluster: AtLeastOnceCluster, limit_s: float, clock: Clock) -> None:
        self.transaction = PlainTransaction()
        self._cluster = cluster
        self._limit_s = limit_s
        self._clock = clock

    def produce_sent(self) -> None:
        """Records are about to leave for the brokers."""
        self.transaction.apply(TransactionEvent.PRODUCE)

    async def bind(self, offsets: Mapping[Partition, int], membership: Membership) -> None:
        """Commit the offsets: the commit point. Repeated unchanged, because committing them twice is once."""
        self.transaction.apply(TransactionEvent.OFFSETS)
        request = OffsetCommit(membership, offsets)
        patience = self.patience(f"committing the offsets of {membership.group}")
        while True:
            try:
                answer = await self._cluster.commit_plain_offsets(request)
            except NoAnswer as exc:
                await patience.pause(str(exc))
                continue
            code = worst(answer.get(partition, Code.UNKNOWN_SERVER_ERROR) for partition in offsets)
            if code == Code.NONE:
                return
            if remedy(code) not in REPEATED:
                await self.fail(code, f"The offsets of {membership} were refused")
            await patience.pause(named(code))

    async def end(self, *, committed: bool) -> None:
        """Nothing is open at the broker."""
        self.transaction.state = TransactionState.EMPTY

    async def fail(self, code: int, what: str) -> NoReturn:
        """Raise what a refusal means."""
        match remedy(code):
            case ErrorRemedy.ABORT | ErrorRemedy.ASK:
                raise TransactionAborted(f"{what}: {named(code)}. The events run again; their outputs may be repeated.")
            case ErrorRemedy.UNSEATED:
                raise Fenced(f"{what}: {named(code)}. The partitions have a new owner; what was open is dropped.")
            case ErrorRemedy.CONFIGURE:
                raise ConfigurationError(f"{what}: {named(code)}. Nothing is committed; mend it and start again.")
        raise UnexpectedCode(f"{what}: {named(code)}, which has no meaning here. Nothing is committed.")

    def patience(self, what: str) -> Backoff:
        """How long a request is repeated before the events run again instead."""
        return Backoff(self._clock, what, limit_s=self._limit_s, on_limit=TransactionAborted)

    async def open(self) -> None:
        """Nothing to take."""

    async def ask(self) -> None:
        """Nobody to ask: there is no identity that somebody newer could hold."""
        self.transaction.state = TransactionState.EMPTY


class PlainTransaction(Transaction):
    """The same states from EMPTY on, for an identity that the broker does not check and sequences it does not count."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.state = TransactionState.EMPTY
        self.identity = NO_IDENTITY

    def sequence(self, partition: Partition) -> int:
        return -1
