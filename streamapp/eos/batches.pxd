cdef class Batch:
    cdef public object partition, topic, append
    cdef object _builder
    cdef public long count
    cdef public long long easy_bytes, easy_from_ms, easy_until_ms
