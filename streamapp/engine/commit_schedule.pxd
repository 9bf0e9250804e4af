cdef long _CLOCK_EVERY
cdef double _NEVER, _PUNCTUAL_S


cdef class CommitSchedule:
    cdef public long finished
    cdef object _monotonic
    cdef double _interval_s, _due_at, _stopped_at
    cdef long _events_max, _bytes_max

    cpdef bint is_due(self, long byte_count)
    cpdef bint is_full(self, long byte_count)
