cimport cython

from streamapp.engine.gate cimport Gate
from streamapp.engine.commit_schedule cimport CommitSchedule
from streamapp.engine.unit cimport Unit
from streamapp.eos.record_accumulator cimport RecordAccumulator
from streamapp.state.unit cimport StoreTransaction


cdef class OpenTransaction:
    cdef RecordAccumulator _filling
    cdef CommitSchedule _schedule
    cdef Gate _gate
    cdef object _follow

    @cython.locals(filling=RecordAccumulator, store=StoreTransaction, is_due=cython.bint)
    cpdef merge(self, Unit unit)
