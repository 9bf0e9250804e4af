"""Ten million marks in an inbox without ten million transfers: written to its changelog, as a worker writes them.

The worker then restores them by itself, into the layout on disk that they always have.
"""

from __future__ import annotations

import time

from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from bench import job
from bench.place import Place
from bench.rounds import OnProgress
from streamapp.delivery.inbox import InboxStatus, mark_key, packed_mark
from streamapp.eos.partitioner import murmur2
from streamapp.settings import Settings
from streamapp.topics import inbox_changelog_spec

_AGENT = "bench.peers.ours.post"
_ACCOUNTS = 1000
_BOUND_S = 120.0


def fill(place: Place, group: str, ids: int, partitions: int, on_progress: OnProgress) -> None:
    """Create the changelog of `group`'s inbox and write `ids` marks into it; acknowledged when this returns."""
    settings = Settings(broker=place.bootstrap, id=group, partitions=partitions)
    spec = inbox_changelog_spec(settings, 1, f"{group}-inbox-changelog")
    made = NewTopic(spec.name, spec.partitions, spec.replication_factor, config=dict(spec.config))
    place.admin.create_topics([made])[spec.name].result(30)
    options = {"linger.ms": 50, "batch.size": 1 << 18, "queue.buffering.max.messages": 500_000}
    producer = Producer(job.client(place.bootstrap) | options)
    keys = [f"a{number}".encode() for number in range(_ACCOUNTS)]
    accounts = [(key, (murmur2(key) & 0x7FFFFFFF) % partitions) for key in keys]
    now_s = int(time.time())
    for number in range(ids):
        account, partition = accounts[number % _ACCOUNTS]
        # Content that differs from id to id, so that nothing compresses better than a real one.
        content = number.to_bytes(8, "big") * 2
        mark = packed_mark(InboxStatus.PROCESSED, 1, now_s, content)
        key = mark_key(_AGENT, account, (f"p{number:09d}",))
        while True:
            try:
                producer.produce(spec.name, mark, key, partition)
                break
            except BufferError:
                producer.poll(0.05)
        if not number % 10_000:
            producer.poll(0)
            on_progress(number)
    if left := producer.flush(_BOUND_S):
        raise TimeoutError(f"{left:,} of {ids:,} marks were not acknowledged in {_BOUND_S:.0f} s")
