cimport cython

from streamapp.state.partition cimport Partition as StorePartition
from streamapp.state.unit cimport Unit as StoreUnit


cdef class Unit:
    cdef public object task, entries
    cdef public list records, sends, workers
    cdef public dict stores
    cdef public int lane, pending, intent_count
    cdef public bint live

    @cython.locals(workers=list)
    cpdef left(self, worker)
    cpdef done(self)
    cpdef send(self, record)
    @cython.locals(found=StoreUnit)
    cpdef StoreUnit store(self, StorePartition partition)
    cpdef drop(self)


cdef object _at_hand

cpdef current_unit()
