"""The partition of a key: by Kafka's default, murmur2 (Utils.murmur2), or by another partitioner of Kafka's clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from zlib import crc32

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_32_BITS = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
_FNV_OFFSET = 0x811C9DC5
_FNV_PRIME = 0x01000193

#: Keys remembered at most, where a hash in Python costs more than everything else of a send; compiled it costs less
#: than looking it up. When there are more all are forgotten: a few microseconds a key, and no bookkeeping a look-up.
_REMEMBERED = 65_536 if __file__.endswith(".py") else 0
_hashes: dict[bytes, int] = {}


def murmur2(key: bytes) -> int:
    """The 32-bit hash Kafka's clients use, unsigned. Compiled about 20 ns for a key of 16 bytes, else 3 us."""
    size = len(key)
    rest = size & 3
    mixed = _SEED ^ size
    for at in range(0, size - rest, 4):
        word = key[at] | key[at + 1] << 8 | key[at + 2] << 16 | key[at + 3] << 24
        word = (word * _MIX) & _32_BITS
        word = ((word ^ (word >> 24)) * _MIX) & _32_BITS
        mixed = ((mixed * _MIX) & _32_BITS) ^ word
    if rest:
        word = key[size - rest]
        if rest > 1:
            word |= key[size - rest + 1] << 8
        if rest > 2:
            word |= key[size - rest + 2] << 16
        mixed = ((mixed ^ word) * _MIX) & _32_BITS
    mixed = ((mixed ^ (mixed >> 13)) * _MIX) & _32_BITS
    return mixed ^ (mixed >> 15)


def partition_of(key: bytes, partition_count: int) -> int:
    """Kafka's default partition of a key."""
    if not _REMEMBERED:
        return (murmur2(key) & _POSITIVE) % partition_count
    mixed = _hashes.get(key)
    if mixed is None:
        if len(_hashes) >= _REMEMBERED:
            _hashes.clear()
        mixed = _hashes[key] = murmur2(key) & _POSITIVE
    return mixed % partition_count


def fnv1a(key: bytes) -> int:
    """FNV-1a of 32 bits as librdkafka and Sarama have it: the absolute value of the signed number."""
    mixed = _FNV_OFFSET
    for at in range(len(key)):
        mixed = ((mixed ^ key[at]) * _FNV_PRIME) & _32_BITS
    return mixed if mixed <= _POSITIVE else _32_BITS - mixed + 1


class Partitioner:
    """One of librdkafka's, by its name there; Java's default is `murmur2_random`. This class: those by murmur2."""

    __slots__ = ("hashing", "name", "scatters_empty", "scatters_null")

    def __init__(self, name: str, hashing: str) -> None:
        self.name = name
        #: Partitioners with the same one put each key that has bytes into the same partition.
        self.hashing = hashing
        #: Whether a record without a key goes anywhere, else where an empty key goes; and whether an empty key does.
        self.scatters_null = name.endswith("_random")
        self.scatters_empty = name == "consistent_random"

    def partition_of(self, key: bytes, partition_count: int) -> int:
        """Where a key goes; of an empty one that goes anywhere, one of the places."""
        return partition_of(key, partition_count)

    def partition_for(self, key: bytes | None, partition_count: int, turn: int) -> int:
        """Where to send a record; `turn` decides for one without a key, if it goes anywhere."""
        if key is None:
            if self.scatters_null:
                return turn % partition_count
            key = b""
        return self.partition_of(key, partition_count)

    def scatters(self, key: bytes | None) -> bool:
        """Whether records of this key lie in any partition."""
        return self.scatters_null if key is None else not key and self.scatters_empty


class CrcPartitioner(Partitioner):
    """Those by CRC32."""

    __slots__ = ()

    def partition_of(self, key: bytes, partition_count: int) -> int:
        """See `Partitioner`."""
        return crc32(key) % partition_count


class FnvPartitioner(Partitioner):
    """Those by FNV-1a."""

    __slots__ = ()

    def partition_of(self, key: bytes, partition_count: int) -> int:
        """See `Partitioner`."""
        return fnv1a(key) % partition_count


def _named() -> Iterable[Partitioner]:
    kinds = (("consistent", "CRC32"), ("murmur2", "murmur2"), ("fnv1a", "FNV-1a"))
    classes = {"CRC32": CrcPartitioner, "murmur2": Partitioner, "FNV-1a": FnvPartitioner}
    return [classes[hashing](base + ending, hashing) for base, hashing in kinds for ending in ("", "_random")]


#: By name.
PARTITIONERS: Mapping[str, Partitioner] = {one.name: one for one in _named()}
DEFAULT = PARTITIONERS["murmur2_random"]
