cdef class Hand:
    cdef public object delivery
    cdef public long long count
