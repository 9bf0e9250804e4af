cimport cython


# Nothing in it can lead back to it, so the collector need not look at what waits in the buffers.
@cython.no_gc
cdef class Record:
    cdef public str topic
    cdef public int partition, timestamp_type
    cdef public long long offset, timestamp, appended
    cdef public bytes key, value
    cdef public tuple headers


@cython.locals(record=Record)
cpdef list changes_of(list records)


@cython.locals(record=Record)
cpdef arrived(list records, long long now_ms)


@cython.locals(record=Record, total="long long")
cpdef long long byte_count(list records) except -1


cdef class Chunk:
    cdef public long long offset
    cdef public list records


@cython.locals(records=list, offset="long long", floor="long long", record=Record)
cpdef list records_of(str topic, int partition, batch, long long floor)


cdef class FetchedBatches:
    cdef str _topic
    cdef int _number
    cdef object _batches
    cdef long long _floor

    cpdef bint has_next(self)


cdef class FetchedBatch:
    cdef str _topic
    cdef int _number
    cdef object _batch
    cdef long long _floor
    cdef public object base_offset, next_offset, producer_id, is_control_batch, is_transactional, validate_crc


cdef class Unpacked:
    cdef object _chunks, _on_unreadable, _remaining
    cdef list _records
    cdef int _at
    cdef public long long next_fetch_offset
