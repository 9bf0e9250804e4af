"""Fetches on their way from aiokafka to a list of records, in one call a batch.

    broker ──▶ PacedFetches: a fetch is over when the next one may be sent
                └─▶ FetchResults: what was fetched and not handed out, by partition
                      └─▶ RecordChunks: what aiokafka decides of a batch (aborted, control, corrupt, the next offset)
                            └─▶ engine.record: Batches ─▶ Chunk ─▶ Unpacked ─▶ Record

It reads private attributes of aiokafka's fetcher: one fetch (`_proc_fetch_request`), what wakes its routine (`_notify`,
`_wait_consume_future`), and what was fetched and not handed out yet (`_records` of `FetchResult._partition_records` and
`_backoff`, and what a `PartitionRecords` is made of).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any

from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.structs import TopicPartition

from streamapp.engine.record import Chunk, FetchedBatches, Unpacked


class FetchResults(OrderedDict[Any, Any]):
    """What aiokafka's fetcher has fetched and not handed out yet; what it hands out are `Record`s.

    `on_arrival` hears of each answer, `on_unreadable` of a partition and offset where it cannot be unpacked. Where one
    partition's is not handed out for a while, the others are fetched on: aiokafka would wait a tenth of a second for it
    first.
    """

    def __init__(
        self,
        found: Iterable[Any] = (),
        on_arrival: Callable[[], None] = lambda: None,
        on_unreadable: Callable[[Any, int], None] | None = None,
    ) -> None:
        super().__init__()
        #: Bytes of each partition's last answer, until somebody asks.
        self._byte_counts: dict[Any, int] = {}
        self._on_arrival = on_arrival
        self._on_unreadable = on_unreadable
        self.update(found)

    def __setitem__(self, tp: Any, result: Any) -> None:
        if type(result) is FetchResult:
            self._byte_counts[tp] = result._partition_records._records.size_in_bytes()
            on_unreadable = partial(self._on_unreadable, tp) if self._on_unreadable is not None else None
            result._partition_records = Unpacked(RecordChunks(result._partition_records), on_unreadable)
            result._backoff = 0.0
        super().__setitem__(tp, result)
        self._on_arrival()

    def byte_count(self, request: Any) -> int:
        """Bytes of the answer to a fetch that has just ended."""
        asked = (TopicPartition(topic, number) for topic, partitions in request.topics for number, *_ in partitions)
        return sum(self._byte_counts.pop(tp, 0) for tp in asked)


class PacedFetches:
    """Wraps aiokafka's fetches of one broker: a fetch completes only when the next one may be sent.

    Its records are available before that. aiokafka's routine is woken at the end in any case: if something else had
    woken it in the same turn of the loop, it found the broker busy and slept for 0.2 s while records were waiting.
    """

    def __init__(self, fetcher: Any, results: FetchResults, pause_s: Callable[[int], float]) -> None:
        self._fetcher = fetcher
        self._fetch: Callable[..., Awaitable[bool]] = fetcher._proc_fetch_request
        self._results = results
        self._pause_s = pause_s

    async def fetch(self, assignment: Any, node: int, request: Any) -> bool:
        """In place of `Fetcher._proc_fetch_request`; whether something came."""
        try:
            has_come = await self._fetch(assignment, node, request)
            pause = self._pause_s(self._results.byte_count(request))
            if pause:
                await asyncio.sleep(pause)
        except asyncio.CancelledError:  # the assignment is gone, or the consumer is closed; aiokafka's says so, too
            return False
        finally:
            asyncio.get_running_loop().call_soon(self._look_again)
        return has_come

    def _look_again(self) -> None:
        self._fetcher._notify(self._fetcher._wait_consume_future)


class RecordChunks(PartitionRecords):
    """aiokafka's reading of one answered fetch, a chunk a step instead of a record.

    What is aborted, a control batch or corrupt, and which offset is next, is decided there. An iterator that is begun
    refers to this, and neither this nor `found` to one: such a ring would keep the bytes of every fetch until Python's
    collector comes by.
    """

    def __init__(self, found: PartitionRecords) -> None:
        super().__init__(
            found._tp,
            FetchedBatches(found._tp.topic, found._tp.partition, found._records, found.next_fetch_offset),
            found._aborted_transactions,
            found.next_fetch_offset,
            None,
            None,
            found._check_crcs,
            found._isolation_level,
        )
        self._records_iterator = found._records_iterator = None

    def __iter__(self) -> Iterator[Chunk]:
        chunks: Iterator[Chunk] = self._unpack_records()
        return chunks

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        return record
