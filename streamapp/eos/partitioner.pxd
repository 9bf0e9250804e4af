cimport cython

cdef unsigned int _SEED, _MIX, _32_BITS, _POSITIVE, _FNV_OFFSET, _FNV_PRIME
cdef int _REMEMBERED
cdef dict _hashes

@cython.locals(size=Py_ssize_t, rest=Py_ssize_t, at=Py_ssize_t, mixed=cython.uint, word=cython.uint)
cpdef unsigned int murmur2(bytes key)

cpdef int partition_of(bytes key, int partition_count)

@cython.locals(at=Py_ssize_t, mixed=cython.uint)
cpdef unsigned int fnv1a(bytes key)


cdef class Partitioner:
    cdef readonly str name, hashing
    cdef readonly bint scatters_null, scatters_empty

    cpdef int partition_of(self, bytes key, int partition_count)
    cpdef int partition_for(self, bytes key, int partition_count, long turn)
    cpdef bint scatters(self, bytes key)


cdef class CrcPartitioner(Partitioner):
    cpdef int partition_of(self, bytes key, int partition_count)


cdef class FnvPartitioner(Partitioner):
    cpdef int partition_of(self, bytes key, int partition_count)
