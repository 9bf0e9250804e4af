cimport cython

from streamapp.engine.record cimport Record


cdef class Delivery:
    cdef public object app, key, value, unit, error
    cdef public Record record
    cdef public bytes mark, content, found
    cdef public long long found_at
    cdef object _event

    cpdef event(self)


@cython.locals(made=Delivery)
cpdef Delivery unread(app, Record record)


@cython.locals(delivery=Delivery, values=list)
cpdef list values_of(list deliveries)
