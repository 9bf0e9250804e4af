"""Compression and checksum of record batches, by aiokafka's C code. The producer's side needs no more of aiokafka."""

from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.util import calc_crc32c

__all__ = ["calc_crc32c", "gzip_encode", "lz4_encode", "snappy_encode", "zstd_encode"]
