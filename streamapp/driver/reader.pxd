from streamapp.driver.record cimport Record
from streamapp.eos.partitioner cimport partition_of


cdef class RecordReader:
    cdef object _codec, _decode, _key_of
    cdef int _partition_count
    cdef bint _has_time

    cpdef tuple read(self, Record record)
