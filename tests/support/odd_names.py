"""Batches with a header whose name is not UTF-8, which no client here can make: Kafka's broker takes them."""

from __future__ import annotations

from streamapp.client.cluster import connect
from streamapp.client.record_batch import Content, pack
from streamapp.eos.protocol import Code, Produce
from streamapp.types import Partition
from tests.support.batch_bytes import checked

#: A header's name, and one of its length that is no text, and how that is read.
NAME, ODD, READ = "odd name", b"odd\xff\xfeame", "odd\ufffd\ufffdame"


def odd(raw: bytes) -> bytes:
    """The batch with `ODD` for every `NAME`."""
    return checked(raw.replace(NAME.encode(), ODD))


async def append(bootstrap: str, at: Partition, contents: list[Content]) -> int:
    """Append them as one batch; returns the offset of the first. Name a header `NAME`."""
    cluster = await connect(bootstrap)
    try:
        node = (await cluster.leaders([at]))[at]
        answer = await cluster.produce(node, Produce(None, 5000, {at: odd(pack(contents))}))
    finally:
        await cluster.close()
    assert answer[at].error == Code.NONE, answer
    return answer[at].base_offset
