cimport cython

from streamapp.engine.gate cimport Gate
from streamapp.engine.commit_schedule cimport CommitSchedule
from streamapp.engine.unit cimport Unit
from streamapp.eos.filling cimport Filling
from streamapp.state.unit cimport Unit as StoreUnit


cdef class OpenTransaction:
    cdef Filling _filling
    cdef CommitSchedule _schedule
    cdef Gate _gate
    cdef object _follow

    @cython.locals(filling=Filling, store=StoreUnit, is_due=cython.bint)
    cpdef merge(self, Unit unit)
