cdef class Gate:
    cdef public bint is_open, single, hurried
    cdef public int running
    cdef public object _drained, _opened

    cpdef enter(self)
    cpdef leave(self)
    cpdef close(self)
    cpdef open(self)
