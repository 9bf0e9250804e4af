cimport cython

from streamapp.state.partition cimport Partition


cdef class Unit:
    cdef Partition _partition
    cdef object _read, _ended
    cdef dict _overlay, _staged

    cpdef get(self, key)
    cpdef get_over(self, key, stored)
    cpdef set(self, key, value)
    cpdef delete(self, key)
    @cython.locals(overlay=dict)
    cpdef merge(self)
    cpdef drop(self)
