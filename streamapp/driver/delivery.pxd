cdef class Delivery:
    cdef public object app, key, value, record, unit
    cdef object _event

    cpdef event(self)
