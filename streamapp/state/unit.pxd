cimport cython


cdef class StoreTransaction:
    cdef object _partition, _read, _ended
    cdef long long _bytes_max
    cdef dict _overlay, _staged

    cpdef get(self, key)
    cpdef get_over(self, key, stored)
    cpdef set(self, key, value)
    cpdef delete(self, key)
    @cython.locals(overlay=dict)
    cpdef merge(self)
    cpdef drop(self)
