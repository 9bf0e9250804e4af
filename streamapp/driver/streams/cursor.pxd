cdef class StreamCursor:
    cdef public object delivery
    cdef public long long count
