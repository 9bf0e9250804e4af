from streamapp.engine.record cimport Record


cdef class Input:
    cdef public object partition
    cdef public long long offset, buffered, room_at, append_time
    cdef public bint has_finished

    cpdef passed(self, Record record)
