cimport cython

from streamapp.codec cimport Decoder
from streamapp.engine.record cimport Record
from streamapp.eos.partitioner cimport partition_of


cdef class Reader:
    cpdef tuple read(self, Record record)


cdef class FaustReader(Reader):
    cdef object _app, _schema


cdef class RecordReader(Reader):
    cdef object _codec, _key_of
    cdef Decoder _decoder
    cdef int _partition_count
    cdef bint _allows_null, _has_time

    @cython.locals(raw_key=bytes, key=str)
    cpdef tuple read(self, Record record)
