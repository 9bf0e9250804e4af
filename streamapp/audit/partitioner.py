"""Kafka's default partition of a key: murmur2, written again from its definition.

The service and the feed have their own; a mistake in one of them shows because this one is not shared.
Source: Austin Appleby's MurmurHash2 with Kafka's seed, as Kafka's clients use it for records with a key.
"""

from __future__ import annotations

import struct
from functools import lru_cache

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_32_BITS = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The hash of `key` as an unsigned 32-bit number."""
    whole = len(key) & ~3
    state = _SEED ^ len(key)
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        word = word * _MULTIPLIER & _32_BITS
        word = (word ^ word >> 24) * _MULTIPLIER & _32_BITS
        state = (state * _MULTIPLIER & _32_BITS) ^ word
    if rest := key[whole:]:
        state = (state ^ int.from_bytes(rest, "little")) * _MULTIPLIER & _32_BITS
    state = (state ^ state >> 13) * _MULTIPLIER & _32_BITS
    return state ^ state >> 15


@lru_cache(maxsize=1 << 16)
def positive_hash(key: bytes) -> int:
    """What Kafka divides by the number of partitions; kept, because a key comes again in several topics."""
    return murmur2(key) & 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key` in a topic of `partitions` partitions."""
    return positive_hash(key) % partitions
