"""RocksDB's options, each set by measurement, and the memory all partitions of a process share.

Measured with 1,000,000 inbox ids of 40 bytes, us a look-up, two cores:

    option                                             miss          hit
    rocksdict as it comes, opened a second time        8-12          7-11
    column families named at every open                0.7-1.0       4-5       (see `rocks.py`)
    ... and the bloom filter of the memtable too       0.4-0.7       3.5-5     (without: 2.3-2.8 while it fills)
    ... a hash index in the data blocks                no difference beyond noise
    ... cache_index_and_filter_blocks                  260-410 (one store, 64 MiB: a filter block fits no cache shard)
    write with the WAL / without                       1.25-1.4 / 1.25-1.4 us a key

A memtable takes memory before it holds a key: its bloom filter, and the first block of its arena (1 MiB as RocksDB
comes). With 64 partitions that alone was above the bound on all memtables, so that every commit flushed every store:
804 ms of wall and 346 ms of CPU a commit, 27 to 55 and 32 to 40 with small blocks and half the filter (200 rows each).
So the bound is on what memtables take beyond that, the filter is of 10 bits a key, and the checkpoint's has none.

Index and filter blocks therefore stay outside the cache, about 2 bytes a key, and every file stays open.

10,000,000 ids over 4 partitions, 7 days of retention in 3 segments each: 125 MiB resident after the writing and
143 MiB after 400,000 look-ups (Python 27, the cache 64, memtables 13), 203 MiB on disk, 350,000 to 480,000 records/s
restored. Opening one of the four (2,500,000 ids) took 0.03 to 0.18 s after kill -9 and 0.01 s after `close()`.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options, WriteBufferManager

_MIB = 1 << 20
#: Of one memtable: its most bytes, its bloom filter's share of them, and how much its arena takes at a time.
_MEMTABLE_BYTES, _FILTER_SHARE, _ARENA_BYTES = 8 * _MIB, 0.01, 128 << 10
#: What a memtable takes that is nearly empty.
_EMPTY_BYTES = int(_MEMTABLE_BYTES * _FILTER_SHARE) + _ARENA_BYTES

_OPTIONS_FILE = """[Version]
  rocksdb_version=9.8.4
  options_file_version=1.1
[DBOptions]
  track_and_verify_wals_in_manifest=true
[CFOptions "default"]
[TableOptions/BlockBasedTable "default"]
"""


class SharedMemory:
    """One block cache and one bound on memtables for all partitions of a process.

    `write_buffer_bytes` is what memtables may hold together before some are written to disk; what empty ones take comes
    on top, as column families are opened.
    """

    def __init__(self, cache_bytes: int = 64 * _MIB, write_buffer_bytes: int = 64 * _MIB) -> None:
        self.cache = Cache(cache_bytes)
        self.write_buffers = WriteBufferManager(write_buffer_bytes, False)
        self._write_buffer_bytes = write_buffer_bytes
        self._families = 0
        #: Of one partition: what is read again when it opens after a kill.
        self.log_bytes = write_buffer_bytes // 2

    def opened(self, families: int) -> None:
        """So many column families more are open; fewer, if it is negative."""
        self._families += families
        self.write_buffers.set_buffer_size(self._write_buffer_bytes + self._families * _EMPTY_BYTES)

    def database_options(self, *, create: bool) -> Options:
        """Options of a database. `create`: the directory must not hold one yet."""
        options = self._set(_verifying_options())
        options.create_if_missing(create)
        options.create_missing_column_families(create)
        options.set_error_if_exists(create)
        options.set_paranoid_checks(True)
        # After a power cut the log ends somewhere: keep the whole batches before that, with their checkpoint.
        options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
        # Values and checkpoint reach the tables together: a MANIFEST that lost its end never shows a newer checkpoint.
        options.set_atomic_flush(True)
        options.set_max_total_wal_size(self.log_bytes)
        options.set_write_buffer_manager(self.write_buffers)
        options.set_max_open_files(-1)
        options.set_max_background_jobs(2)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(_MIB)
        options.set_stats_dump_period_sec(0)
        options.set_stats_persist_period_sec(0)
        return options

    def family_options(self) -> Options:
        """Options of a column family that holds values."""
        options = self._set(Options(raw_mode=True))
        options.set_memtable_prefix_bloom_ratio(_FILTER_SHARE)
        options.set_memtable_whole_key_filtering(True)
        return options

    def checkpoint_options(self) -> Options:
        """Options of the column family that holds the checkpoint alone."""
        return self._set(Options(raw_mode=True))

    def _set(self, options: Options) -> Options:
        options.set_compression_type(DBCompressionType.lz4())
        options.set_write_buffer_size(_MEMTABLE_BYTES)
        options.set_arena_block_size(_ARENA_BYTES)
        tables = BlockBasedOptions()
        tables.set_block_cache(self.cache)
        tables.set_bloom_filter(10, False)
        tables.set_format_version(6)
        options.set_block_based_table_factory(tables)
        return options


def _verifying_options() -> Options:
    """Options with the one check rocksdict has no setter for, read from a file as RocksDB writes it.

    Without it a MANIFEST that lost its end opens with a gap: the logs of the lost flushes are gone, those after them
    are replayed, and the checkpoint is newer than the values. With it the missing log is noticed.
    """
    with TemporaryDirectory(prefix="streamapp-options-") as directory:
        (Path(directory) / "OPTIONS-000001").write_text(_OPTIONS_FILE)
        options, _ = Options.load_latest(directory)
    return options
