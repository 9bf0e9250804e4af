"""What is overheard of aiokafka's fetches: the leader epoch of the last batch, whatever the bytes are."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from streamapp.client.overheard import newest_epoch
from streamapp.client.record_batch import pack


def batch(epoch: int) -> bytes:
    """A record batch as a leader of this epoch keeps it; the checksum does not cover the epoch."""
    raw = bytearray(pack([(b"k", b"v", 1, ())]))
    struct.pack_into(">i", raw, 12, epoch)
    return bytes(raw)


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5).map(sorted), st.integers(0, 60))
def test_the_newest_epoch_is_that_of_the_last_whole_batch(epochs: list[int], cut: int) -> None:
    whole = b"".join(map(batch, epochs))
    assert newest_epoch(whole) == epochs[-1]
    assert newest_epoch(whole + batch(2**31 - 1)[:cut]) == epochs[-1], "a fetch may end within a batch"


@given(st.binary(max_size=200))
def test_it_ends_whatever_the_bytes_are(raw: bytes) -> None:
    assert isinstance(newest_epoch(raw), int)
