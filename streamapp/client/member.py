"""A member of a group: aiokafka's consumer, which joins, is assigned partitions, and fetches them.

It reads private attributes of aiokafka's consumer: `_client` (for one fetch of our own), `_coordinator` (group_id,
generation, member_id, request_rejoin), `_subscription` (a partition's position without waiting, and what is taken of an
assignment) and `_fetcher`: how much it asks for (`_max_partition_fetch_bytes`), and what `fetch.py` puts in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

import aiokafka
import aiokafka.errors
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.structs import TopicPartition

from streamapp.client.cluster import KafkaCluster
from streamapp.client.fetch import FetchResults, PacedFetches
from streamapp.client.fetch_delay import pause_s
from streamapp.client.leader_epochs import LeaderEpochs
from streamapp.client.overheard import Overheard, settled_positions
from streamapp.client.raw_batch import read_batch
from streamapp.client.refusals import explained
from streamapp.engine.environment import AssignmentListener
from streamapp.engine.record import Record
from streamapp.eos.positions import PositionLost
from streamapp.eos.protocol import Membership
from streamapp.errors import StreamAppError, Unavailable
from streamapp.failpoints import failpoint
from streamapp.settings import Settings
from streamapp.types import Partition

logger = logging.getLogger(__name__)

#: How soon a topic that was deleted or has got partitions is noticed.
_METADATA_AGE_MS = 5000
#: Longest pause between two heartbeats. A member hears of a rebalance by the answer to one, and nobody, a thawed zombie
#: neither, has its partitions before all have heard.
_HEARTBEAT_S = 0.75
#: Bytes a fetch asks of a partition for, and of all of them together: as much waits where their tasks are full.
_PARTITION_BYTES = 2 << 20
_FETCH_BYTES = 32 << 20
#: How long a broker may wait with a batch that is there.
_AROUND_WAIT_MS = 500
#: How often in a row the group is asked for another assignment before the worker gives up.
_ASK_MOST = 3


class ConsumerEnded(StreamAppError):
    """The member or its fetches failed for good. The worker ends; nothing is lost."""


class KafkaMember:
    """A `Member`: aiokafka's consumer."""

    def __init__(
        self,
        settings: Settings,
        assignor: Any,
        options: Mapping[str, Any],
        due_in_s: Callable[[], float],
        cluster: KafkaCluster,
    ) -> None:
        self._cluster = cluster
        self._epochs = LeaderEpochs(settings.id)
        self._group, self._instance = settings.id, settings.instance
        #: How long to wait behind an answer of so many bytes.
        self._pause_s = lambda byte_count: pause_s(settings.commit_interval, byte_count, due_in_s())
        self._assignor = assignor
        #: How often in a row another assignment was asked for, and why none came.
        self._asked = 0
        self._failure: ConsumerEnded | None = None
        self._consumer = aiokafka.AIOKafkaConsumer(
            group_id=settings.id,
            group_instance_id=settings.instance,
            partition_assignment_strategy=[assignor],
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=int(settings.session_timeout * 1000),
            heartbeat_interval_ms=int(min(settings.session_timeout / 4, _HEARTBEAT_S) * 1000),
            max_partition_fetch_bytes=_PARTITION_BYTES,
            fetch_max_wait_ms=200,
            metadata_max_age_ms=_METADATA_AGE_MS,
            **options,
        )
        self._subscriptions = self._consumer._subscription = Subscriptions()
        self._started = False
        #: Something was fetched, or is wanted again.
        self._arrived = asyncio.Event()
        #: Where a batch is next that aiokafka cannot unpack.
        self._unreadable: dict[Any, int] = {}
        self._warned: set[Any] = set()
        # Plain calls of every fetch, without a layer between.
        self.assignment = self._consumer.assignment

    @property
    def membership(self) -> Membership:
        coordinator = self._consumer._coordinator
        return Membership(coordinator.group_id, coordinator.generation, coordinator.member_id, self._instance)

    async def subscribe(self, topics: Collection[str], listener: AssignmentListener) -> None:
        self._consumer.subscribe(list(topics), listener=RebalanceListener(self, listener))
        if not self._started:
            self._started = True
            try:
                await self._consumer.start()
            except aiokafka.errors.KafkaError as exc:
                if not isinstance(exc, aiokafka.errors.KafkaConnectionError) or self._consumer._fetcher is not None:
                    raise self._ended(exc) from exc
                self._started = False  # it has begun with nothing, and can be started again
                raise Unavailable(str(exc)) from exc
            fetcher = self._consumer._fetcher
            results = fetcher._records = FetchResults(fetcher._records, self._arrived.set, self._unreadable.__setitem__)
            fetcher._client = Overheard(fetcher._client, self._epochs.saw)
            fetcher._update_fetch_positions = settled_positions
            fetcher._proc_fetch_request = PacedFetches(fetcher, results, self._pause_s).fetch

    def share_fetches(self, partition_count: int) -> None:
        """So many partitions are owned: what may be fetched at once is shared by them."""
        share = min(_PARTITION_BYTES, _FETCH_BYTES // max(1, partition_count))
        self._consumer._fetcher._max_partition_fetch_bytes = share

    def has_true_assignment(self) -> bool:
        """Whether what was just assigned is for what is subscribed; if not, the group is asked for another (ADR 0011).

        After some tries in vain `fetch` raises.
        """
        assignor = self._assignor
        if assignor.fits:
            self._asked = 0
            return True
        subscribed = self._consumer.subscription()
        is_strange = any(topic not in subscribed for topic, _ in self._subscriptions.given)
        # A leader that does not say for what it assigned has known the subscription once it was asked anew, and always
        # that of a member without INSTANCE, which no group keeps an old assignment for.
        if assignor.made_for is None and not is_strange and (self._asked or self._instance is None):
            return True
        if self._asked >= _ASK_MOST:
            self._failure = ConsumerEnded(
                f"Group {self._group} assigned partitions of other topics than this worker subscribes, {_ASK_MOST} "
                "times after it was asked for others. The worker ends; what was committed is kept, and nothing was "
                "consumed since. Stop members of the group that are none of this service's, then start it again."
            )
            return False
        self._asked += 1
        logger.warning(
            "the group's assignment is for %s, and this worker reads %s: it asks for another, which rebalances the "
            "group; nothing is consumed until then",
            "topics unknown" if assignor.made_for is None else ", ".join(sorted(assignor.made_for)),
            ", ".join(sorted(subscribed)),
        )
        failpoint("another assignment")
        assignor.ask_for_another()
        self._consumer._coordinator.request_rejoin()
        return False

    def _ended(self, exc: BaseException) -> ConsumerEnded:
        return ConsumerEnded(explained(self._group, exc))

    def seek(self, partition: Partition, offset: int) -> None:
        self._consumer.seek(TopicPartition(*partition), offset)

    def pause(self, *partitions: Partition) -> None:
        self._consumer.pause(*(TopicPartition(*partition) for partition in partitions))

    def resume(self, *partitions: Partition) -> None:
        self._consumer.resume(*(TopicPartition(*partition) for partition in partitions))

    def position(self, partition: Partition) -> int | None:
        subscription = self._consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return None
        if partition not in subscription.assignment.tps:
            return None
        state = subscription.assignment.state_value(TopicPartition(*partition))
        return state.position if state.has_valid_position else None

    def end(self, partition: Partition) -> int | None:
        return self._consumer.highwater(TopicPartition(*partition))

    def answered(self, partition: Partition) -> int | None:
        stamp: int | None = self._consumer.last_poll_timestamp(TopicPartition(*partition))
        return stamp

    def leader_epoch(self, partition: Partition) -> int:
        return self._epochs.newest(partition)

    async def fetch(
        self, timeout_s: float, record_limit: int, full: Collection[Partition] = ()
    ) -> Mapping[Any, list[Record]]:
        if self._failure is not None:
            raise self._failure
        self._arrived.clear()
        fetched = await self._fetched(record_limit, full)
        with contextlib.suppress(TimeoutError):
            if not fetched:
                async with asyncio.timeout(timeout_s):
                    while not fetched:
                        await self._arrived.wait()
                        self._arrived.clear()
                        fetched = await self._fetched(record_limit, full)
        return fetched

    def forget_epochs(self) -> None:
        """Partitions have changed hands: what is fetched from here on follows nothing."""
        self._epochs.forget()

    def wake(self) -> None:
        self._arrived.set()

    async def _fetched(self, record_limit: int, full: Collection[Partition]) -> Mapping[Any, list[Record]]:
        """What is there already. A paused partition would lose it; one that is not asked for keeps it."""
        wanted = [tp for tp in self.assignment() if tp not in full] if full else []
        if full and not wanted:  # to name none would be to ask for all
            return {}
        if self._epochs.are_in_doubt and not await self._epochs.verify(self._cluster):
            return {}
        try:
            for tp, offset in list(self._unreadable.items()):
                if self.position(tp) != offset:  # sought meanwhile, or given up: it is found again by who gets there
                    del self._unreadable[tp]
                elif tp not in full and (found := await self._read_around(tp, offset)):
                    return {tp: found}
            fetched: Mapping[Any, list[Record]] = await self._consumer.getmany(*wanted, max_records=record_limit)
        except aiokafka.errors.OffsetOutOfRangeError as exc:
            ((tp, offset),) = exc.args[0].items()
            raise PositionLost(Partition(*tp), offset, self._group) from exc
        except aiokafka.errors.KafkaError as exc:
            raise self._ended(exc) from exc
        return fetched

    async def _read_around(self, tp: Any, offset: int) -> list[Record]:
        """The records of a batch that aiokafka cannot unpack: fetched once more, and read by ourselves.

        Nothing where there is no answer; the next call asks again.
        """
        client = self._consumer._client
        wanted = [(tp.topic, [(tp.partition, offset, _PARTITION_BYTES)])]
        request = FetchRequest(_AROUND_WAIT_MS, 1, _PARTITION_BYTES, READ_COMMITTED, wanted, rack_id="")
        node = client.cluster.leader_for_partition(tp)
        try:
            response = await client.send(-1 if node is None else node, request)
        except aiokafka.errors.KafkaError:
            return []
        ((_, ((_, code, _, *_, raw),)),) = response.topics
        # Nothing is awaited from here on: what is handed out lies behind the position as it is at this instant.
        if code != 0 or not raw or self.position(tp) != offset:
            return []
        records, following = read_batch(raw, tp.topic, tp.partition, offset)
        self._consumer.seek(tp, following)
        if tp not in self._warned:
            self._warned.add(tp)
            logger.warning(
                "%s-%d@%d: a header's name in this batch is not UTF-8; what does not fit is read as U+FFFD, here and "
                "in whatever follows in this partition",
                *tp,
                offset,
            )
        return records

    async def close(self) -> None:
        await self._consumer.stop()


class Subscriptions(SubscriptionState):
    """aiokafka's, which fails an assertion, and with it the whole membership, for a topic that is not subscribed."""

    def __init__(self) -> None:
        super().__init__()
        #: Everything the group gave.
        self.given: frozenset[Any] = frozenset()

    def assign_from_subscribed(self, assignment: Any) -> None:
        """Take what is subscribed; of the rest `has_true_assignment` hears."""
        self.given = frozenset(assignment)
        super().assign_from_subscribed({tp for tp in self.given if tp.topic in self.topics})


class RebalanceListener(aiokafka.ConsumerRebalanceListener):
    """What aiokafka tells of a rebalance, for the group's consumer of the engine."""

    def __init__(self, member: KafkaMember, listener: AssignmentListener) -> None:
        self._member = member
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Any) -> None:
        await self._listener.on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self._member.forget_epochs()
        if self._member.has_true_assignment():
            self._member.share_fetches(len(assigned))
            await self._listener.on_partitions_assigned(assigned)
