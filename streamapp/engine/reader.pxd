cimport cython

from streamapp.codec cimport Decoder
from streamapp.engine.record cimport Record
from streamapp.eos.partitioner cimport Partitioner, partition_of


cdef class Reader:
    cpdef tuple read(self, Record record)


cdef class RecordReader(Reader):
    cdef object _codec, _key_of
    cdef Decoder _decoder
    cdef Partitioner _partitioner
    cdef int _partition_count
    cdef bint _allows_null, _has_time, _is_default

    @cython.locals(raw_key=bytes, key=str, partition=cython.int)
    cpdef tuple read(self, Record record)
