"""Kafka's default partition of a key: murmur2, so that every client in every language agrees (Utils.murmur2)."""

from __future__ import annotations

import struct

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_32_BITS = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF

#: Keys remembered at most; then all are forgotten, which costs a few microseconds a key and no bookkeeping a look-up.
_REMEMBERED = 65_536


def murmur2(key: bytes) -> int:
    """The 32-bit hash Kafka's clients use, unsigned. About 2 us for a key of 16 bytes."""
    whole = len(key) & ~3
    mixed = _SEED ^ len(key)
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        word = (word * _MIX) & _32_BITS
        word = ((word ^ (word >> 24)) * _MIX) & _32_BITS
        mixed = ((mixed * _MIX) & _32_BITS) ^ word
    if whole < len(key):
        mixed = ((mixed ^ int.from_bytes(key[whole:], "little")) * _MIX) & _32_BITS
    mixed = ((mixed ^ (mixed >> 13)) * _MIX) & _32_BITS
    return mixed ^ (mixed >> 15)


class Partitioner:
    """Partition numbers of keys, remembered: a hash in Python costs more than everything else of a send."""

    __slots__ = ("_hashes",)

    def __init__(self) -> None:
        self._hashes: dict[bytes, int] = {}

    def __call__(self, key: bytes, partition_count: int) -> int:
        mixed = self._hashes.get(key)
        if mixed is None:
            if len(self._hashes) >= _REMEMBERED:
                self._hashes.clear()
            mixed = self._hashes[key] = murmur2(key) & _POSITIVE
        return mixed % partition_count
