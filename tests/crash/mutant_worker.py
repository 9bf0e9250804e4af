"""A worker with one deliberate mistake, so that the campaign's judges can be seen to notice it.

    python tests/crash/mutant_worker.py M14 worker ...

Each mutant patches one function of the engine and then runs the command line. The numbers are those of the study of
mutants that trusted systems' tests were found blind to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

# A function that is compiled cannot be replaced; its Python is the same.
os.environ["STREAMAPP_PURE"] = "1"

MUTANTS: dict[str, Callable[[], None]] = {}


def mutant(patch: Callable[[], None]) -> Callable[[], None]:
    MUTANTS[patch.__name__.upper()] = patch
    return patch


@mutant
def m1() -> None:
    """At least once: outputs are committed first, the offsets in a transaction of their own behind it."""
    from streamapp.eos.producer import Producer
    from streamapp.failpoints import failpoint

    bind, end = Producer.bind, Producer.end

    async def outputs_first(self: Any, offsets: Any, membership: Any) -> None:
        # The table of states asks for an offset in every transaction: the ones that are committed already do.
        before = _COMMITTED.setdefault(id(self), dict.fromkeys(offsets, 0))
        await bind(self, {at: before.get(at, 0) for at in offsets}, membership)
        await end(self)
        failpoint("M1")
        before.update(offsets)
        await bind(self, offsets, membership)

    Producer.bind = outputs_first  # type: ignore[method-assign]


_COMMITTED: dict[int, dict[Any, int]] = {}


@mutant
def m2() -> None:
    """Offsets are committed outside of the transaction, before it: here as a transaction of their own."""
    from streamapp.eos import commit as module
    from streamapp.eos.producer import Producer
    from streamapp.failpoints import failpoint

    async def later(self: Any) -> Any:
        return {}

    produce, bind, end = Producer.produce, Producer.bind, Producer.end
    kept: dict[str, Any] = {}

    async def offsets_first(self: Any, offsets: Any, membership: Any) -> None:
        await bind(self, offsets, membership)
        await end(self)
        failpoint("M2")
        kept["written"] = await produce(self)
        await bind(self, offsets, membership)

    Producer.produce = later  # type: ignore[method-assign]
    Producer.bind = offsets_first  # type: ignore[method-assign]
    whole = module._end

    async def settled(producer: Any, written: Any, settle: Any) -> None:
        await whole(producer, kept["written"], settle)

    module._end = settled


@mutant
def m3() -> None:
    """No inbox: a repeat has its effect again."""
    from streamapp.driver.streams.inbox import Inbox

    Inbox.admit = lambda self, unit, event: True  # type: ignore[method-assign]


@mutant
def m4() -> None:
    """The inbox's mark is written at once, apart from the event's transaction."""
    from streamapp.driver.streams.inbox import Inbox

    whole = Inbox._fresh

    def at_once(self: Any, rows: Any, key: bytes, *known: Any) -> Any:
        mark = whole(self, rows, key, *known)
        if mark is not None:
            rows._partition._storage.write([(key, mark)], None)
        return mark

    Inbox._fresh = at_once  # type: ignore[method-assign]


@mutant
def m7() -> None:
    """The commit does not wait for running events, and events go on meanwhile."""
    from streamapp.engine.gate import Gate

    async def at_once(self: Any, timeout_s: float) -> bool:
        return True

    Gate.close = lambda self: None  # type: ignore[method-assign]
    Gate.drained = at_once  # type: ignore[method-assign]


@mutant
def m8() -> None:
    """Answers of Produce are not looked at: a refused batch is taken for written."""
    from streamapp.eos.producer import Producer
    from streamapp.eos.protocol import Code

    async def unchecked(self: Any, answers: Any) -> None:
        for partition, answer in answers.items():
            answers[partition] = answer._replace(error=Code.NONE)

    Producer._check = unchecked  # type: ignore[method-assign]


@mutant
def m13() -> None:
    """The changelog is restored read_uncommitted."""
    import aiokafka

    whole = aiokafka.AIOKafkaConsumer.__init__

    def uncommitted(self: Any, *topics: Any, **options: Any) -> None:
        if options.get("group_id") is None:
            options["isolation_level"] = "read_uncommitted"
        whole(self, *topics, **options)

    aiokafka.AIOKafkaConsumer.__init__ = uncommitted


@mutant
def m14() -> None:
    """The state is written before the commit, as it is in stock Faust."""
    from streamapp.engine.committer import Committer

    whole = Committer._commit

    async def early(self: Any) -> bool:
        for task in self._owned.tasks:
            for store in task.stores.values():
                store._storage.write(list(store.overlay.items()), None)
        return await whole(self)

    Committer._commit = early  # type: ignore[method-assign]


@mutant
def m15() -> None:
    """The checkpoint is stored before the commit, and ahead of it."""
    from streamapp.engine.committer import Committer

    whole = Committer._commit

    async def ahead(self: Any) -> bool:
        for task in self._owned.tasks:
            for store in task.stores.values():
                if store.overlay:
                    store._storage.write((), (store.checkpoint or 0) + len(store.overlay))
        return await whole(self)

    Committer._commit = ahead  # type: ignore[method-assign]


@mutant
def m16() -> None:
    """An event whose agent raised, or that nobody can read, is acknowledged without a dead letter."""
    from streamapp.engine.engine import Engine

    def acknowledged(self: Any, unit: Any, error: BaseException, agent: str | None = None) -> None:
        unit.drop()
        unit.stores.clear()
        unit.task.finish(unit)

    Engine.failed = acknowledged  # type: ignore[method-assign]


@mutant
def m17() -> None:
    """Dead letters are written at once, outside of the transaction."""
    from streamapp.engine import failure as module
    from streamapp.engine.engine import Engine

    whole = module.dead_letter

    def at_once(source: Any, error: BaseException, **options: Any) -> Any:
        import os

        from confluent_kafka import Producer

        letter = whole(source, error, **options)
        sender = Producer({"bootstrap.servers": os.environ["STREAMAPP_BROKER"], "log_level": 0})
        sender.produce(
            letter.topic, partition=letter.partition, key=letter.key, value=letter.value, headers=list(letter.headers)
        )
        sender.flush(10)
        return letter

    finish = Engine.failed

    def failed(self: Any, unit: Any, error: BaseException, agent: str | None = None) -> None:
        staged = unit.sends
        finished = unit.task.finish

        def without_letter(it: Any) -> None:
            staged.clear()
            finished(it)

        unit.task.finish = without_letter
        try:
            finish(self, unit, error, agent)
        finally:
            del unit.task.finish

    module.dead_letter = at_once
    Engine.failed = failed  # type: ignore[method-assign]


@mutant
def m26() -> None:
    """A revoked partition is processed on: nothing is given up, and the commit is guarded by no membership."""
    from streamapp.client.cluster import KafkaCluster
    from streamapp.engine.group import GroupConsumer
    from streamapp.eos import commit as module

    async def kept(self: Any, revoked: Any) -> None:
        return None

    commit = KafkaCluster.commit_offsets

    async def unguarded(self: Any, request: Any) -> Any:
        nobody = request.membership._replace(generation=-1, member_id="", instance_id=None)
        return await commit(self, request._replace(membership=nobody))

    GroupConsumer.on_partitions_revoked = kept  # type: ignore[method-assign]
    KafkaCluster.commit_offsets = unguarded  # type: ignore[method-assign]
    module.require_seat = lambda membership: None


@mutant
def m27() -> None:
    """A restore leaves out the last record of what it fetched."""
    from streamapp.state import TablePartition

    whole = TablePartition.restore

    def short(self: Any, records: Any, checkpoint: int, *more: Any) -> None:
        whole(self, list(records)[:-1], checkpoint, *more)

    TablePartition.restore = short  # type: ignore[method-assign]


def main(arguments: list[str]) -> None:
    MUTANTS[arguments[0]]()
    sys.argv = ["streamapp", *arguments[1:]]
    from streamapp.cli.main import main as run

    run()


def described() -> Mapping[str, str]:
    """Each mutant and its mistake."""
    return {name: (patch.__doc__ or "").strip() for name, patch in MUTANTS.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
