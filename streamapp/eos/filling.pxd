cimport cython

from streamapp.eos.batches cimport Batch
from streamapp.eos.partitioner cimport partition_of


cdef class Filling:
    cdef public long long byte_count
    cdef public long turn
    cdef object _topics, _batch_bytes, _compression, _clock, _transactional
    cdef bint _builder_reads_clock
    cdef dict _filling, _full

    @cython.locals(batch=Batch, filling=list)
    cpdef append(self, topic, int partition, key, value, headers=*, timestamp_ms=*)
    cpdef partition_for(self, topic, key)
    cpdef place(self, topic, bytes key, bytes value)
    @cython.locals(filling=list)
    cdef Batch _begin(self, topic, int partition)
