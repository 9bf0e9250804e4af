"""Producer, coordinator and commit against a cluster that answers by script, on a clock that does not wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords

from streamapp.eos import commit as commit_module
from streamapp.eos.cluster import NoAnswer
from streamapp.eos.commit import commit
from streamapp.eos.fencing import require_seat, still_seated
from streamapp.eos.producer import Producer, Written
from streamapp.eos.protocol import (
    NO_IDENTITY,
    Code,
    EndTxn,
    EndTxnAnswer,
    Features,
    InitProducerId,
    InitProducerIdAnswer,
    Membership,
    Produce,
    ProduceAnswer,
    Produced,
    ProducerIdentity,
    TopicDescription,
    TxnOffsetCommit,
    TxnOffsetCommitAnswer,
)
from streamapp.eos.remedies import (
    _GRAVITY,
    REMEDIES,
    ContentRefused,
    ErrorRemedy,
    UnexpectedCode,
    remedy,
    worst,
)
from streamapp.eos.transaction import BrokenTransaction, TransactionState
from streamapp.errors import ConfigurationError, Fenced, InstanceFenced, RecordError, TransactionAborted
from streamapp.types import Partition

SEAT = Membership("app", 3, "member-1", None)
OFFSETS = {Partition("transfer", 0): 10}
LEDGER = Partition("ledger", 0)
LOST = "lost"


class QuickClock:
    """Time passes only while somebody sleeps, and then at once."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


class ScriptedCluster:
    """Answers what the script says, call by call, and success after it. A script is a code, LOST, or an answer."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.script: dict[str, deque[Any]] = {}
        self.arrivals: dict[str, asyncio.Event] = {}
        self.topics = {"ledger": TopicDescription("ledger", partition_count=3)}
        self.nodes = {0: 1, 1: 2, 2: 1}
        self.identity = ProducerIdentity(50, 0)
        self.ends: dict[Partition, int] = {}
        self.version = 2

    def will(self, call: str, *answers: Any) -> None:
        self.script.setdefault(call, deque()).extend(answers)

    async def reached(self, call: str) -> None:
        await self.arrivals.setdefault(call, asyncio.Event()).wait()

    def named(self, call: str) -> list[Any]:
        return [request for name, request in self.calls if name == call]

    def _next(self, call: str, request: Any) -> Any:
        self.calls.append((call, request))
        self.arrivals.setdefault(call, asyncio.Event()).set()
        waiting = self.script.get(call)
        answer = waiting.popleft() if waiting else 0
        if answer == LOST:
            raise NoAnswer(f"{call} got no answer")
        return answer

    def bump(self) -> ProducerIdentity:
        producer_id, epoch = self.identity
        self.identity = (
            ProducerIdentity(producer_id + 1, 0) if epoch >= 32766 else ProducerIdentity(producer_id, epoch + 1)
        )
        return self.identity

    async def features(self) -> Features:
        self._next("features", None)
        return Features(self.version)

    async def describe_topic(self, topic: str) -> TopicDescription:
        answer = self._next("describe", topic)
        if answer or topic not in self.topics:
            return TopicDescription(topic, answer or Code.UNKNOWN_TOPIC_OR_PARTITION)
        return self.topics[topic]

    async def leaders(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        answer = self._next("leaders", partitions)
        return {} if answer else {partition: self.nodes[partition.number] for partition in partitions}

    async def init_producer_id(self, request: InitProducerId) -> InitProducerIdAnswer:
        answer = self._next("init", request)
        if answer:
            return answer if isinstance(answer, InitProducerIdAnswer) else InitProducerIdAnswer(answer)
        return InitProducerIdAnswer(0, self.identity if request.identity == NO_IDENTITY else self.bump())

    async def produce(self, node: int, request: Produce) -> ProduceAnswer:
        assert {self.nodes[partition.number] for partition in request.batches} == {node}
        answer = self._next("produce", request)
        answers = {}
        for partition, records in request.batches.items():
            code = answer.get(partition, 0) if isinstance(answer, dict) else answer
            if isinstance(code, Produced):
                answers[partition] = code
            elif code:
                answers[partition] = Produced(code)
            else:
                base = self.ends.get(partition, 100)
                count = len(list(MemoryRecords(bytes(records)).next_batch()))
                self.ends[partition] = base + count
                answers[partition] = Produced(0, base)
        return answers

    async def commit_offsets(self, request: TxnOffsetCommit) -> TxnOffsetCommitAnswer:
        answer = self._next("offsets", request)
        return dict.fromkeys(request.offsets, answer)

    async def end_transaction(self, request: EndTxn) -> EndTxnAnswer:
        answer = self._next("end", request)
        if answer:
            return EndTxnAnswer(answer)
        return EndTxnAnswer(0, self.bump())

    async def fetch_offsets(self, request: Any) -> Any:
        raise NotImplementedError

    async def list_offsets(self, request: Any) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        pass


@pytest.fixture
def cluster() -> ScriptedCluster:
    return ScriptedCluster()


@pytest.fixture
async def producer(cluster: ScriptedCluster) -> Producer:
    producer = Producer(cluster, "app-1", transaction_timeout_s=10, clock=QuickClock())
    await producer.start()
    await producer.ensure("ledger")
    return producer


def headers_of(records: bytes | bytearray) -> tuple[int, int, int]:
    batch = MemoryRecords(bytes(records)).next_batch()
    return batch.producer_id, batch.producer_epoch, batch.base_sequence


# --- the ordinary way


async def test_a_commit_is_produce_offsets_end_in_this_order(cluster: ScriptedCluster, producer: Producer) -> None:
    for value in (b"a", b"b"):
        producer.append("ledger", 0, b"k", value)
    producer.append("ledger", 1, b"k", b"c")
    settled: list[Mapping[Partition, Written]] = []
    written = await commit(producer, OFFSETS, SEAT, settled.append)
    assert written == {LEDGER: (100, 102), Partition("ledger", 1): (100, 101)}
    assert settled == [written]
    steps = [name for name, _ in cluster.calls if name in ("produce", "offsets", "end")]
    assert steps == ["produce", "produce", "offsets", "end"], "one request a node"
    assert cluster.named("offsets") == [TxnOffsetCommit("app-1", ProducerIdentity(50, 0), SEAT, OFFSETS)]
    assert cluster.named("end") == [EndTxn("app-1", ProducerIdentity(50, 0), True)]
    assert (producer.state, producer.byte_count) == (TransactionState.EMPTY, 0)


async def test_each_transaction_has_the_epoch_the_last_answer_gave(
    cluster: ScriptedCluster, producer: Producer
) -> None:
    for epoch in range(3):
        producer.append("ledger", 0, b"k", b"v")
        await commit(producer, OFFSETS, SEAT)
        assert headers_of(cluster.named("produce")[-1].batches[LEDGER]) == (50, epoch, 0)


async def test_used_up_epochs_go_on_under_a_new_producer_id(cluster: ScriptedCluster) -> None:
    cluster.identity = ProducerIdentity(50, 32765)
    producer = Producer(cluster, "app-1", transaction_timeout_s=10, clock=QuickClock())
    await producer.start()
    await producer.ensure("ledger")
    seen = []
    for _ in range(4):
        producer.append("ledger", 0, b"k", b"v")
        await commit(producer, OFFSETS, SEAT)
        seen.append(headers_of(cluster.named("produce")[-1].batches[LEDGER]))
    assert seen == [(50, 32765, 0), (50, 32766, 0), (51, 0, 0), (51, 1, 0)]


async def test_a_new_producer_id_may_also_come_after_a_question(cluster: ScriptedCluster, producer: Producer) -> None:
    producer.append("ledger", 0, b"k", b"v")
    cluster.will("produce", Code.INVALID_PRODUCER_EPOCH)
    cluster.will("init", InitProducerIdAnswer(0, ProducerIdentity(99, 0)))
    with pytest.raises(TransactionAborted):
        await commit(producer, OFFSETS, SEAT)
    producer.append("ledger", 0, b"k", b"v")
    await commit(producer, OFFSETS, SEAT)
    assert headers_of(cluster.named("produce")[-1].batches[LEDGER]) == (99, 0, 0)


async def test_full_batches_of_a_partition_go_out_in_order_with_consecutive_sequences(
    cluster: ScriptedCluster,
) -> None:
    producer = Producer(cluster, "app-1", transaction_timeout_s=10, batch_bytes=400, clock=QuickClock())
    await producer.start()
    await producer.ensure("ledger")
    for number in range(20):
        producer.append("ledger", 0, b"k", b"%04d" % number + b"." * 60)
    size = producer.byte_count
    assert size == 20 * 65
    written = await commit(producer, OFFSETS, SEAT)
    assert written == {LEDGER: (100, 120)}
    batches = [bytes(request.batches[LEDGER]) for request in cluster.named("produce")]
    assert len(batches) > 3
    values, sequence = [], 0
    for records in batches:
        batch = MemoryRecords(records).next_batch()
        assert batch.base_sequence == sequence
        values += [one.value for one in batch]
        sequence = len(values)
    assert values == [b"%04d" % number + b"." * 60 for number in range(20)]


async def test_a_commit_without_records_still_carries_its_offsets(cluster: ScriptedCluster, producer: Producer) -> None:
    assert await commit(producer, OFFSETS, SEAT) == {}
    assert [name for name, _ in cluster.calls if name in ("produce", "offsets", "end")] == ["offsets", "end"]


async def test_without_offsets_nothing_is_committed(cluster: ScriptedCluster, producer: Producer) -> None:
    producer.append("ledger", 0, b"k", b"v")
    with pytest.raises(BrokenTransaction):
        await commit(producer, {}, SEAT)
    with pytest.raises(BrokenTransaction):
        await producer.end()
    assert cluster.named("end") == []


# --- lost answers: repeated unchanged


@pytest.mark.parametrize("call", ["produce", "offsets", "end", "leaders"])
@pytest.mark.parametrize("hindrance", [LOST, Code.CONCURRENT_TRANSACTIONS, Code.NOT_COORDINATOR])
async def test_a_call_without_an_answer_is_repeated_unchanged(
    cluster: ScriptedCluster, producer: Producer, call: str, hindrance: Any
) -> None:
    producer.append("ledger", 0, b"k", b"v")
    cluster.will(call, hindrance, hindrance)
    written = await commit(producer, OFFSETS, SEAT)
    assert written == {LEDGER: (100, 101)}
    first, *repeated = cluster.named(call)
    assert len(repeated) == 2
    assert all(again == first for again in repeated), "the same bytes, epoch and sequence"
    assert cluster.named("end")[-1] == EndTxn("app-1", ProducerIdentity(50, 0), True)


async def test_only_what_has_no_answer_is_produced_again(cluster: ScriptedCluster, producer: Producer) -> None:
    producer.append("ledger", 0, b"k", b"v")
    producer.append("ledger", 2, b"k", b"v")
    cluster.will("produce", {LEDGER: Code.NOT_LEADER_OR_FOLLOWER})
    await commit(producer, OFFSETS, SEAT)
    assert [set(request.batches) for request in cluster.named("produce")] == [
        {LEDGER, Partition("ledger", 2)},
        {LEDGER},
    ]


async def test_without_any_answer_until_the_time_out_the_transaction_is_aborted(
    cluster: ScriptedCluster, producer: Producer
) -> None:
    producer.append("ledger", 0, b"k", b"v")
    cluster.will("produce", *[LOST] * 100)
    with pytest.raises(TransactionAborted, match="Gave up producing"):
        await commit(producer, OFFSETS, SEAT)
    assert cluster.named("end") == [EndTxn("app-1", ProducerIdentity(50, 0), False)]
    assert producer.state is TransactionState.EMPTY


async def test_a_commit_in_doubt_is_asked_for_as_long_as_it_takes(cluster: ScriptedCluster, producer: Producer) -> None:
    cluster.will("end", *[LOST] * 500)
    await commit(producer, OFFSETS, SEAT)
    assert len(cluster.named("end")) == 501
    assert set(cluster.named("end")) == {EndTxn("app-1", ProducerIdentity(50, 0), True)}


# --- decision 8: one bad answer and nothing is committed


@pytest.mark.parametrize(
    "code", [code for code in Code if REMEDIES.get(code) not in (ErrorRemedy.REPEAT, ErrorRemedy.REROUTE)]
)
async def test_a_batch_that_failed_is_never_followed_by_a_commit(
    cluster: ScriptedCluster, producer: Producer, code: Code
) -> None:
    if code == Code.NONE:
        return
    producer.append("ledger", 0, b"k", b"v")
    producer.append("ledger", 2, b"k", b"v")
    cluster.will("produce", {Partition("ledger", 2): code})
    with pytest.raises((TransactionAborted, Fenced, ConfigurationError, UnexpectedCode)):
        await commit(producer, OFFSETS, SEAT, lambda _: pytest.fail("settled"))
    assert all(not request.committed for request in cluster.named("end"))


#: code of a Produce -> (what is raised, whether the open transaction is aborted by EndTxn, whether it is asked who is
#: newer). One row a remedy at least; those that repeat are tested above.
PRODUCE_ROWS = [
    (Code.MESSAGE_TOO_LARGE, ContentRefused, True, False),
    (Code.RECORD_LIST_TOO_LARGE, ContentRefused, True, False),
    (Code.INVALID_TIMESTAMP, ContentRefused, True, False),
    (Code.INVALID_RECORD, ContentRefused, True, False),
    (Code.OUT_OF_ORDER_SEQUENCE_NUMBER, TransactionAborted, True, False),
    (Code.DUPLICATE_SEQUENCE_NUMBER, TransactionAborted, True, False),
    (Code.TRANSACTION_ABORTABLE, TransactionAborted, True, False),
    (Code.INVALID_PRODUCER_EPOCH, TransactionAborted, False, True),
    (Code.PRODUCER_FENCED, TransactionAborted, False, True),
    (Code.INVALID_TXN_STATE, TransactionAborted, False, True),
    (Code.INVALID_PRODUCER_ID_MAPPING, TransactionAborted, False, True),
    (Code.UNKNOWN_PRODUCER_ID, TransactionAborted, False, True),
    (Code.TOPIC_AUTHORIZATION_FAILED, ConfigurationError, True, False),
    (Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, ConfigurationError, True, False),
    (Code.CLUSTER_AUTHORIZATION_FAILED, ConfigurationError, True, False),
]


@pytest.mark.parametrize(("code", "raised", "aborted", "asked"), PRODUCE_ROWS)
async def test_what_a_refused_batch_means(
    cluster: ScriptedCluster,
    producer: Producer,
    code: Code,
    raised: type[Exception],
    aborted: bool,
    asked: bool,
) -> None:
    producer.append("ledger", 0, b"k", b"v")
    cluster.will("produce", code)
    with pytest.raises(raised) as failure:
        await commit(producer, OFFSETS, SEAT)
    assert type(failure.value) is raised
    assert str(int(code)) in str(failure.value)
    assert cluster.named("end") == ([EndTxn("app-1", ProducerIdentity(50, 0), False)] if aborted else [])
    assert [request.identity for request in cluster.named("init")[1:]] == ([ProducerIdentity(50, 0)] if asked else [])
    assert producer.state is TransactionState.EMPTY
    producer.append("ledger", 0, b"k", b"v")
    await commit(producer, OFFSETS, SEAT)


OFFSET_ROWS = [
    (Code.ILLEGAL_GENERATION, Fenced, True),
    (Code.UNKNOWN_MEMBER_ID, Fenced, True),
    (Code.FENCED_INSTANCE_ID, Fenced, True),
    (Code.REBALANCE_IN_PROGRESS, TransactionAborted, True),
    (Code.TRANSACTION_ABORTABLE, TransactionAborted, True),
    (Code.INVALID_PRODUCER_EPOCH, TransactionAborted, False),
    (Code.INVALID_PRODUCER_ID_MAPPING, TransactionAborted, False),
    (Code.GROUP_AUTHORIZATION_FAILED, ConfigurationError, True),
    (Code.INVALID_GROUP_ID, ConfigurationError, True),
]


@pytest.mark.parametrize(("code", "raised", "aborted"), OFFSET_ROWS)
async def test_what_refused_offsets_mean(
    cluster: ScriptedCluster, producer: Producer, code: Code, raised: type[Exception], aborted: bool
) -> None:
    producer.append("ledger", 0, b"k", b"v")
    cluster.will("offsets", code)
    with pytest.raises(raised) as failure:
        await commit(producer, OFFSETS, SEAT, lambda _: pytest.fail("settled"))
    assert type(failure.value) is raised
    assert [request.committed for request in cluster.named("end")] == ([False] if aborted else [])


@pytest.mark.parametrize("code", [-2, 999, Code.OFFSET_OUT_OF_RANGE])
@pytest.mark.parametrize("call", ["produce", "offsets", "end"])
async def test_a_code_nobody_knows_is_a_crash(
    cluster: ScriptedCluster, producer: Producer, call: str, code: int
) -> None:
    producer.append("ledger", 0, b"k", b"v")
    cluster.will(call, code)
    with pytest.raises(UnexpectedCode):
        await commit(producer, OFFSETS, SEAT)


#: code of an EndTxn(commit) -> answer of the question -> what is raised.
END_ROWS: list[tuple[int, int, type[Exception]]] = [
    (Code.INVALID_TXN_STATE, 0, TransactionAborted),
    (Code.INVALID_TXN_STATE, Code.PRODUCER_FENCED, InstanceFenced),
    (Code.TRANSACTION_ABORTABLE, 0, TransactionAborted),
    (Code.INVALID_PRODUCER_EPOCH, Code.PRODUCER_FENCED, InstanceFenced),
    (Code.PRODUCER_FENCED, Code.PRODUCER_FENCED, InstanceFenced),
    (Code.PRODUCER_FENCED, Code.INVALID_PRODUCER_EPOCH, InstanceFenced),
    (Code.INVALID_PRODUCER_ID_MAPPING, Code.PRODUCER_FENCED, InstanceFenced),
    # Nobody is newer and the commit is neither done nor certainly not: a guess either way, so a crash.
    (Code.PRODUCER_FENCED, 0, UnexpectedCode),
    (Code.INVALID_PRODUCER_ID_MAPPING, 0, UnexpectedCode),
    (Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, 0, ConfigurationError),
]


@pytest.mark.parametrize("lost_before", [0, 1])
@pytest.mark.parametrize(("code", "question", "raised"), END_ROWS)
async def test_what_a_refused_commit_means(
    cluster: ScriptedCluster, producer: Producer, code: int, question: int, raised: type[Exception], lost_before: int
) -> None:
    producer.append("ledger", 0, b"k", b"v")
    cluster.will("end", *[LOST] * lost_before, code)
    cluster.will("init", question)
    with pytest.raises(raised) as failure:
        await commit(producer, OFFSETS, SEAT, lambda _: pytest.fail("settled"))
    assert type(failure.value) is raised
    assert all(request.committed for request in cluster.named("end")), "a commit that was sent is never aborted"


async def test_a_twin_ends_this_producer_for_good(cluster: ScriptedCluster, producer: Producer) -> None:
    producer.append("ledger", 0, b"k", b"v")
    cluster.will("produce", Code.INVALID_PRODUCER_EPOCH)
    cluster.will("init", Code.CONCURRENT_TRANSACTIONS, LOST, Code.PRODUCER_FENCED)
    with pytest.raises(InstanceFenced, match="app-1"):
        await commit(producer, OFFSETS, SEAT)
    assert producer.state is TransactionState.FENCED
    assert cluster.named("end") == [], "the transaction of a newer one is not ours to end"
    await producer.abort()
    producer.append("ledger", 0, b"k", b"v")
    with pytest.raises(BrokenTransaction):
        await commit(producer, OFFSETS, SEAT)


async def test_before_rejoining_the_question_may_be_asked_alone(cluster: ScriptedCluster, producer: Producer) -> None:
    producer.append("ledger", 0, b"k", b"dropped")
    await producer.confirm()
    assert (producer.state, producer.byte_count) == (TransactionState.EMPTY, 0)
    cluster.will("init", Code.PRODUCER_FENCED)
    with pytest.raises(InstanceFenced):
        await producer.confirm()


async def test_the_worst_of_several_answers_decides(cluster: ScriptedCluster, producer: Producer) -> None:
    for number in range(3):
        producer.append("ledger", number, b"k", b"v")
    cluster.will("produce", {LEDGER: Code.NOT_LEADER_OR_FOLLOWER, Partition("ledger", 2): Code.MESSAGE_TOO_LARGE})
    with pytest.raises(ContentRefused) as refused:
        await commit(producer, OFFSETS, SEAT)
    assert refused.value.partition == ("ledger", 2)


async def test_a_content_error_names_the_records_the_broker_names(cluster: ScriptedCluster, producer: Producer) -> None:
    producer.append("ledger", 0, b"k", b"v")
    answer = Produced(Code.INVALID_RECORD, record_errors=((0, "no key"),), message="one record is bad")
    cluster.will("produce", {LEDGER: answer})
    with pytest.raises(ContentRefused, match="one record is bad") as refused:
        await commit(producer, OFFSETS, SEAT)
    assert (refused.value.partition, refused.value.code, refused.value.record_indexes) == (LEDGER, 87, (0,))


async def test_a_limit_lowered_behind_our_back_is_learnt_from_the_refusal(
    cluster: ScriptedCluster, producer: Producer
) -> None:
    producer.append("ledger", 0, b"k", b"v" * 1000)
    cluster.topics["ledger"] = TopicDescription("ledger", partition_count=3, max_message_bytes=500)
    cluster.will("produce", Code.MESSAGE_TOO_LARGE)
    with pytest.raises(ContentRefused):
        await commit(producer, OFFSETS, SEAT)
    with pytest.raises(RecordError, match="500"):
        producer.append("ledger", 0, b"k", b"v" * 1000)


@pytest.mark.parametrize("answer", [LOST, 3, 29])
async def test_what_is_known_of_a_topic_stands_while_nothing_better_is(
    cluster: ScriptedCluster, producer: Producer, answer: Any
) -> None:
    cluster.will("describe", answer)
    await producer.refresh("ledger")
    assert producer.knows("ledger")


# --- abort and cancellation


async def test_an_abort_repeats_until_it_is_known_and_drops_everything(
    cluster: ScriptedCluster, producer: Producer
) -> None:
    producer.append("ledger", 0, b"k", b"v")
    await producer.produce()
    producer.append("ledger", 0, b"k", b"later")
    cluster.will("end", LOST, Code.CONCURRENT_TRANSACTIONS)
    await producer.abort()
    assert cluster.named("end") == [EndTxn("app-1", ProducerIdentity(50, 0), False)] * 3
    assert (producer.state, producer.byte_count) == (TransactionState.EMPTY, 0)
    await producer.abort()
    assert len(cluster.named("end")) == 3, "an empty transaction needs no EndTxn"


@pytest.mark.parametrize("code", [48, 47, 90, 49])
async def test_an_abort_of_what_the_broker_ended_already_only_needs_an_identity(
    cluster: ScriptedCluster, producer: Producer, code: int
) -> None:
    producer.append("ledger", 0, b"k", b"v")
    await producer.produce()
    cluster.will("end", code)
    await producer.abort()
    assert producer.state is TransactionState.EMPTY


async def test_cancelled_before_the_commit_point_the_caller_aborts(
    cluster: ScriptedCluster, producer: Producer
) -> None:
    producer.append("ledger", 0, b"k", b"v")
    cluster.will("offsets", *[LOST] * 5)
    task = asyncio.create_task(commit(producer, OFFSETS, SEAT))
    await cluster.reached("offsets")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cluster.named("end") == []
    with pytest.raises(BrokenTransaction, match="OFFSETS_SENT"):
        await producer.produce()
    await producer.abort()
    assert producer.state is TransactionState.EMPTY


async def test_cancelled_at_the_commit_point_it_settles_first(cluster: ScriptedCluster, producer: Producer) -> None:
    producer.append("ledger", 0, b"k", b"v")
    cluster.will("end", *[LOST] * 20)
    settled: list[Any] = []
    task = asyncio.create_task(commit(producer, OFFSETS, SEAT, settled.append))
    await cluster.reached("end")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert settled == [{LEDGER: (100, 101)}]
    assert producer.state is TransactionState.EMPTY


async def test_cancelled_in_doubt_the_wait_is_bounded_and_nothing_is_guessed(
    cluster: ScriptedCluster, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_module, "CANCELLED_PATIENCE_S", 0.05)
    cluster.will("end", *[LOST] * 1_000_000)
    task = asyncio.create_task(commit(producer, OFFSETS, SEAT, lambda _: pytest.fail("settled")))
    await cluster.reached("end")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert producer.state is TransactionState.COMMITTING
    with pytest.raises(BrokenTransaction, match="in doubt"):
        await producer.abort()


async def test_a_failure_found_out_after_a_cancellation_is_raised(cluster: ScriptedCluster, producer: Producer) -> None:
    cluster.will("end", *[LOST] * 20, Code.PRODUCER_FENCED)
    cluster.will("init", Code.PRODUCER_FENCED)
    task = asyncio.create_task(commit(producer, OFFSETS, SEAT))
    await cluster.reached("end")
    task.cancel()
    with pytest.raises(InstanceFenced):
        await task


# --- start, topics, refusals


async def test_start_waits_for_the_broker_and_for_the_predecessors_transaction(cluster: ScriptedCluster) -> None:
    cluster.will("features", LOST, LOST)
    cluster.will("init", Code.COORDINATOR_NOT_AVAILABLE, LOST, Code.CONCURRENT_TRANSACTIONS)
    producer = Producer(cluster, "app-1", transaction_timeout_s=7.5, clock=QuickClock())
    await producer.start()
    assert set(cluster.named("init")) == {InitProducerId("app-1", 7500, NO_IDENTITY)}
    assert producer.state is TransactionState.EMPTY


async def test_a_cluster_on_protocol_v1_is_refused(cluster: ScriptedCluster) -> None:
    cluster.version = 1
    with pytest.raises(ConfigurationError, match=r"transaction\.version is 1"):
        await Producer(cluster, "app-1", transaction_timeout_s=10, clock=QuickClock()).start()
    assert cluster.named("init") == []


@pytest.mark.parametrize("code", [Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Code.INVALID_TRANSACTION_TIMEOUT])
async def test_a_transactional_id_that_is_refused_is_a_matter_of_configuration(
    cluster: ScriptedCluster, code: Code
) -> None:
    cluster.will("init", code)
    with pytest.raises(ConfigurationError, match="app-1"):
        await Producer(cluster, "app-1", transaction_timeout_s=10, clock=QuickClock()).start()


async def test_a_topic_that_is_just_being_made_is_waited_for(cluster: ScriptedCluster, producer: Producer) -> None:
    cluster.topics["fresh"] = TopicDescription("fresh", partition_count=1)
    cluster.will("describe", 3, LOST, 5)
    assert (await producer.ensure("fresh")).partition_count == 1
    calls = len(cluster.calls)
    await producer.ensure("fresh")
    assert len(cluster.calls) == calls, "asked once"


async def test_a_broker_that_is_away_says_nothing_about_a_topic(cluster: ScriptedCluster, producer: Producer) -> None:
    cluster.topics["fresh"] = TopicDescription("fresh", partition_count=1)
    cluster.will("describe", 3, *[LOST] * 60, 3, 3)
    assert (await producer.ensure("fresh")).name == "fresh"


async def test_a_topic_there_is_not_fails_the_event(producer: Producer) -> None:
    with pytest.raises(RecordError, match="nowhere"):
        await producer.ensure("nowhere")


async def test_a_topic_that_may_not_be_described_stops_the_worker(cluster: ScriptedCluster, producer: Producer) -> None:
    cluster.will("describe", Code.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(ConfigurationError, match="secret"):
        await producer.ensure("secret")


async def test_an_append_needs_a_known_topic_and_a_partition_it_has(producer: Producer) -> None:
    with pytest.raises(BrokenTransaction, match="ensure"):
        producer.append("unknown", 0, b"k", b"v")
    with pytest.raises(RecordError, match="no partition 3"):
        producer.append("ledger", 3, b"k", b"v")


async def test_a_refused_record_leaves_no_trace(cluster: ScriptedCluster, producer: Producer) -> None:
    with pytest.raises(RecordError):
        producer.append("ledger", 0, b"k", b"v" * 2_000_000)
    with pytest.raises(RecordError):
        producer.append("ledger", 0, b"k", b"v", [("h", b"x" * 2_000_000)])
    with pytest.raises(RecordError):
        producer.append("ledger", 0, b"k", b"v", timestamp_ms=-1)
    assert producer.byte_count == 0
    producer.append("ledger", 0, b"k", b"v", (("h", b"x"),), 5)
    producer.append("ledger", 0, b"k", None, ())
    await commit(producer, OFFSETS, SEAT)
    records = cluster.named("produce")[0].batches[LEDGER]
    assert [one.value for one in MemoryRecords(bytes(records)).next_batch()] == [b"v", None]


@pytest.mark.parametrize("append_time", [False, True])
async def test_only_timestamps_the_topic_allows_are_appended(
    cluster: ScriptedCluster, producer: Producer, append_time: bool
) -> None:
    hour_ms, now_ms = 3_600_000, 1_700_000_000_000
    cluster.topics["timed"] = TopicDescription(
        "timed",
        partition_count=1,
        append_time=append_time,
        timestamp_before_max_ms=hour_ms,
        timestamp_after_max_ms=hour_ms,
    )
    await producer.ensure("timed")
    for timestamp_ms in (now_ms - hour_ms, now_ms, now_ms + hour_ms):
        producer.append("timed", 0, b"k", b"v", (), timestamp_ms)
    for timestamp_ms in (now_ms - hour_ms - 1, now_ms + hour_ms + 1):
        if append_time:
            producer.append("timed", 0, b"k", b"v", (), timestamp_ms)
        else:
            with pytest.raises(RecordError):
                producer.append("timed", 0, b"k", b"v", (), timestamp_ms)
    with pytest.raises(RecordError):
        producer.append("timed", 0, b"k", b"v", (), -1)


async def test_an_empty_batch_left_by_a_refusal_is_not_produced(cluster: ScriptedCluster, producer: Producer) -> None:
    with pytest.raises(RecordError):
        producer.append("ledger", 0, b"k", b"v" * 2_000_000)
    assert await commit(producer, OFFSETS, SEAT) == {}
    assert cluster.named("produce") == []


async def test_keys_decide_partitions_and_records_without_one_take_turns(producer: Producer) -> None:
    assert producer.partition_for("ledger", b"21") == (-973932308 & 0x7FFFFFFF) % 3
    turns = []
    for _ in range(4):
        turns.append(producer.partition_for("ledger", None))
        assert producer.partition_for("ledger", None) == turns[-1], "one a transaction"
        await commit(producer, OFFSETS, SEAT)
    assert turns == [0, 1, 2, 0]


async def test_record_times_come_from_the_clock_that_was_given(cluster: ScriptedCluster, producer: Producer) -> None:
    producer.append("ledger", 0, b"k", b"v")
    await commit(producer, OFFSETS, SEAT)
    (record,) = MemoryRecords(bytes(cluster.named("produce")[0].batches[LEDGER])).next_batch()
    assert record.timestamp == 1_700_000_000_000


# --- the seat


@pytest.mark.parametrize("lost", [Membership("app", -1, ""), Membership("app", -1, "m"), Membership("app", 4, "")])
async def test_without_a_seat_nothing_is_sent(cluster: ScriptedCluster, producer: Producer, lost: Membership) -> None:
    producer.append("ledger", 0, b"k", b"v")
    with pytest.raises(Fenced, match="no seat"):
        await commit(producer, OFFSETS, lost)
    assert [name for name, _ in cluster.calls if name in ("produce", "offsets", "end")] == []
    assert producer.byte_count == 0


def test_a_seat_is_held_while_generation_and_member_are_the_same() -> None:
    require_seat(SEAT)
    assert still_seated(SEAT, SEAT._replace(instance_id="renamed"))
    for live in (SEAT._replace(generation=4), SEAT._replace(member_id=""), Membership("app", -1, "")):
        assert not still_seated(SEAT, live)


# --- the table of remedies

#: Every row of the table, written down a second time by what Kafka documents of the code.
EXPECTED = {
    ErrorRemedy.DONE: {0},
    ErrorRemedy.REPEAT: {-1, 2, 14, 19, 20, 51, 78, 88, 89},
    ErrorRemedy.REROUTE: {3, 5, 6, 7, 9, 13, 15, 16, 52, 56, 74, 75, 100},
    ErrorRemedy.ABORT: {27, 45, 46, 120},
    ErrorRemedy.CONTENT: {10, 18, 32, 87},
    ErrorRemedy.ASK: {47, 48, 49, 59, 90},
    ErrorRemedy.UNSEATED: {22, 25, 82},
    ErrorRemedy.CONFIGURE: {17, 24, 29, 30, 31, 35, 50, 53},
}


@pytest.mark.parametrize(("expected", "code"), [(one, code) for one, codes in EXPECTED.items() for code in codes])
def test_the_remedy_of_each_code(expected: ErrorRemedy, code: int) -> None:
    assert remedy(code) is expected


def test_the_table_has_no_row_that_is_not_tested() -> None:
    assert {int(code) for code in REMEDIES} == set().union(*EXPECTED.values())
    assert set(_GRAVITY) == set(ErrorRemedy)


def test_the_gravest_code_wins_whatever_the_order() -> None:
    assert worst([0, 6, 10, 47, 22]) == 47
    assert worst([22, 10]) == 22
    assert worst([0, 51, 6]) == 6
    assert worst([]) == 0
