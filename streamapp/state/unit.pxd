cdef class Unit:
    cdef object _partition, _read, _ended
    cdef dict _overlay, _staged

    cpdef get(self, key)
    cpdef get_over(self, key, stored)
    cpdef set(self, key, value)
    cpdef delete(self, key)
    cpdef merge(self)
    cpdef drop(self)
