cdef object _pack, _encode_key, _encode_content, _new_hash
cdef int _ATTEMPTS_MAX

cpdef bytes packed_mark(status, int attempts, appended_s, content)
cpdef bytes mark_key(agent, bytes key, tuple event_id)


cdef class Fields:
    cdef public tuple event_id
    cdef public object content, optional
    cdef object _of_objects, _of_mappings
    cdef bint _has_one
    cdef dict _readers

    cdef tuple _readers_of(self, value)

    cpdef tuple id_of(self, value)
    cpdef bytes hash_of(self, value)
