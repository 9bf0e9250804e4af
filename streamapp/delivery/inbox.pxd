cpdef bytes packed_mark(status, int attempts, appended_s, content)
cpdef bytes mark_key(agent, key, event_id)


cdef class Fields:
    cdef public tuple event_id
    cdef public object content
    cdef object _of_objects, _of_mappings
    cdef dict _readers

    cdef tuple _readers_of(self, value)

    cpdef tuple id_of(self, value)
    cpdef bytes hash_of(self, value)
