cimport cython

from streamapp.state.partition cimport TablePartition
from streamapp.state.unit cimport StoreTransaction


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
    @cython.locals(found=StoreTransaction)
    cpdef StoreTransaction store(self, TablePartition partition)
    cpdef drop(self)


cdef object _at_hand

cpdef current_unit()
