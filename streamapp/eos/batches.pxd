cimport cython

cdef int _SMALL_COUNT, _JOINED_AT
cdef list _SMALL
cdef bytes _NULL, _NO_HEADERS, _ATTRIBUTES

@cython.locals(rest=cython.ulonglong, made=bytearray)
cdef bytes _varint(long long value)
cpdef bytes varint(long long value)


cdef class Batch:
    cdef public object partition, topic
    cdef object _compression, _transactional
    cdef list _pieces, _joined
    cdef bytes _stamp
    cdef long long _first_ms, _last_ms, _largest_ms, _size, _size_max
    cdef public long count
    cdef public long long easy_bytes, easy_from_ms, easy_until_ms

    @cython.locals(pieces=list, size=cython.longlong, length=bytes, place=bytes, key_length=bytes, value_length=bytes, tail=bytes)
    cpdef long long append(self, long long timestamp_ms, bytes key, bytes value, headers) except -1
