cimport cython

from streamapp.state.unit cimport StoreTransaction


cdef class TablePartition:
    cdef public object name, overlay, committed, _storage
    cdef public dict _sealed
    cdef public long long version, bytes_max
    cdef object _order, _sealed_order, _retention_s, _read
    cdef long long _segment_end_s
    cdef bint _closed
    cdef object __weakref__

    cpdef StoreTransaction begin(self)
    @cython.locals(sealed=dict)
    cpdef list read_all(self, list keys)
    cpdef _sealed_or_stored(self, key)
    cdef _set_sealed(self, sealed)
