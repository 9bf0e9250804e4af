"""The commit, in numbered steps, and nothing else.

1 barrier                          the driver's: no unit is running
2 changelog records, seal          the driver's: the overlay's changes are appended; units start again, for the next one
3 produce every sealed batch       every answer is checked; one that failed ends it (decision 8)
4 the consumed offsets             with the membership: a stale one is refused (decision 4)
5 end the transaction              THE COMMIT POINT; repeated until the outcome is known (decision 7)
6 `settle`                         what must follow a commit: one atomic batch a store
7 metrics, intents                 the driver's; only now the next transaction may come to 3

stopped before 5   nothing happened      aborted here; TransactionAborted: rewind and run the events again
fenced             someone is newer      Fenced, InstanceFenced: drop the partitions, never retry
in 5, no answer    in doubt              asked again; never aborted, never guessed
between 5 and 6    committed, disk behind   6 is done even if the caller is cancelled; after a crash, the changelog
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from streamapp.eos.fencing import require_seat
from streamapp.eos.producer import Producer, Written
from streamapp.eos.protocol import Membership
from streamapp.eos.transaction import BrokenTransaction, TransactionState
from streamapp.errors import ConfigurationError, Fenced, TransactionAborted
from streamapp.failpoints import failpoint
from streamapp.types import Partition

log = logging.getLogger(__name__)

#: How long a cancelled caller waits for the outcome of a commit that was already sent, in seconds.
CANCELLED_PATIENCE_S = 10.0

Settle = Callable[[Mapping[Partition, Written]], None]


async def commit(
    producer: Producer,
    offsets: Mapping[Partition, int],
    membership: Membership,
    settle: Settle | None = None,
) -> Mapping[Partition, Written]:
    """Commit what was appended together with the offsets; returns where each partition's records went.

    `offsets`: the next offset to read of each *owned* input partition; at least one, or nothing would guard the
    transaction. `settle` is step 6: it runs when and only when the transaction is committed, before anything else can.
    Cancelled before step 5: the caller aborts. Cancelled in step 5: the outcome is awaited for a bounded time, step 6
    done if it was a commit, and only then does the cancellation go on.
    """
    try:
        require_seat(membership)
        if not offsets:
            raise BrokenTransaction("A transaction without an offset in it would be guarded by nobody.")
        failpoint("commit.before_produce")
        written = await producer.produce()  # 3
        failpoint("commit.before_offsets")
        await producer.bind(offsets, membership)  # 4
        failpoint("commit.before_end")
    except (TransactionAborted, Fenced, ConfigurationError):
        await _abort(producer)
        raise
    await _uninterrupted(_end(producer, written, settle))  # 5, 6
    return written


async def _end(producer: Producer, written: Mapping[Partition, Written], settle: Settle | None) -> None:
    await producer.end()
    failpoint("commit.before_store")
    if settle is not None:
        settle(written)


async def _abort(producer: Producer) -> None:
    """Leave nothing open behind a failure. A transaction of a fenced producer is not ours to end any more."""
    if producer.state is not TransactionState.FENCED:
        await producer.abort()


async def _uninterrupted(steps: Coroutine[Any, Any, None]) -> None:
    """Run to the end even if the caller is cancelled meanwhile; then let the cancellation go on.

    Bounded: a broker that stays away must not keep a process from ending. What is committed is in Kafka either way,
    and the next start reads it there.
    """
    work = asyncio.create_task(steps, name="eos-commit")
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([work], timeout=CANCELLED_PATIENCE_S)
        finally:
            if not work.done():
                log.warning("The outcome of the last transaction is not known; the next start asks the broker.")
                work.cancel()
        if work.done() and not work.cancelled() and (failure := work.exception()) is not None:
            raise failure from None
        raise
