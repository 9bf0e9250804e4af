cimport cython

cdef unsigned int _SEED, _MIX, _32_BITS, _POSITIVE
cdef int _REMEMBERED
cdef dict _hashes

@cython.locals(size=Py_ssize_t, rest=Py_ssize_t, at=Py_ssize_t, mixed=cython.uint, word=cython.uint)
cpdef unsigned int murmur2(bytes key)

cpdef int partition_of(bytes key, int partition_count)
