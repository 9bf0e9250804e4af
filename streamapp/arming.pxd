cdef class Arming:
    cdef public bint on
