cimport cython

from streamapp.eos.batches cimport Batch
from streamapp.eos.partitioner cimport Partitioner

cdef int _TOGETHER


cdef class RecordAccumulator:
    cdef public long long byte_count
    cdef public long turn
    cdef public dict topics, partitioners
    cdef object _batch_bytes, _compression, _clock, _transactional, _now
    cdef dict _filling, _full
    cdef list _waiting

    @cython.locals(key=bytes, value=bytes, one=tuple)
    cpdef add(self, list sends)
    @cython.locals(waiting=list, partition=int, key=bytes, value=bytes, now_ms=cython.longlong)
    cdef _append_waiting(self)
    @cython.locals(key=bytes, value=bytes, now_ms=cython.longlong)
    cpdef append_all(self, topic, int partition, changes)
    cpdef append(self, topic, int partition, key, value, headers=*, timestamp_ms=*)
    @cython.locals(batch=Batch, filling=list, stamp=cython.longlong)
    cdef _append(self, topic, int partition, bytes key, bytes value, headers, timestamp_ms, long long now_ms)
    @cython.locals(partitioner=Partitioner)
    cpdef partition_for(self, topic, key)
    @cython.locals(filling=list)
    cdef Batch _begin(self, topic, int partition)
