cimport cython

from streamapp.engine.record cimport Record


cdef class DispatchedEvent:
    cdef public object app, key, value, unit, error
    cdef public Record record
    cdef public bytes mark, content, found
    cdef public long long found_at
    cdef object _event

    cpdef event(self)


@cython.locals(made=DispatchedEvent)
cpdef DispatchedEvent unread(app, Record record)


@cython.locals(delivery=DispatchedEvent, values=list)
cpdef list values_of(list deliveries)
