"""RocksDB's options, each set by measurement, and the memory all partitions of a process share.

Measured with 1,000,000 inbox ids of 40 bytes, us a look-up, two cores:

    option                                             miss          hit
    rocksdict as it comes, opened a second time        8-12          7-11
    column families named at every open                0.7-1.0       4-5       (see `rocks.py`)
    ... and the bloom filter of the memtable too       0.4-0.7       3.5-5     (without: 2.3-2.8 while it fills)
    ... a hash index in the data blocks                no difference beyond noise
    ... cache_index_and_filter_blocks                  260-410 when a filter block fits no shard of the cache
    write with the WAL / without                       1.25-1.4 / 1.25-1.4 us a key

Index and filter blocks therefore stay outside the cache, about 2 bytes a key, and every file stays open.
"""

from __future__ import annotations

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options, WriteBufferManager

_MIB = 1 << 20


class SharedMemory:
    """One block cache and one bound on memtables for all partitions of a process."""

    def __init__(self, cache_bytes: int = 64 * _MIB, write_buffer_bytes: int = 64 * _MIB) -> None:
        self.cache = Cache(cache_bytes)
        self.write_buffers = WriteBufferManager(write_buffer_bytes, False)

    def options(self, *, create: bool) -> Options:
        """Options of a database and of its column families. `create`: the directory must not hold one yet."""
        options = Options(raw_mode=True)
        options.create_if_missing(create)
        options.create_missing_column_families(create)
        options.set_error_if_exists(create)
        options.set_paranoid_checks(True)
        # After a power cut the log ends somewhere: keep the whole batches before that, with their checkpoint.
        options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
        # Values and checkpoint reach the tables together: a MANIFEST that lost its end never shows a newer checkpoint.
        options.set_atomic_flush(True)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_write_buffer_size(16 * _MIB)
        options.set_write_buffer_manager(self.write_buffers)
        options.set_memtable_prefix_bloom_ratio(0.02)
        options.set_memtable_whole_key_filtering(True)
        options.set_max_total_wal_size(32 * _MIB)
        options.set_max_open_files(-1)
        options.set_max_background_jobs(2)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(_MIB)
        options.set_stats_dump_period_sec(0)
        options.set_stats_persist_period_sec(0)
        options.set_block_based_table_factory(self._tables())
        return options

    def _tables(self) -> BlockBasedOptions:
        tables = BlockBasedOptions()
        tables.set_block_cache(self.cache)
        tables.set_bloom_filter(10, False)
        tables.set_format_version(6)
        return tables
