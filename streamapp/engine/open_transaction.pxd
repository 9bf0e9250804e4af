cimport cython

from streamapp.engine.gate cimport Gate
from streamapp.engine.commit_schedule cimport Pace
from streamapp.engine.unit cimport Unit
from streamapp.eos.filling cimport Filling
from streamapp.state.unit cimport Unit as StoreUnit


cdef class Merging:
    cdef Filling _filling
    cdef Pace _pace
    cdef Gate _gate
    cdef object _follow

    @cython.locals(filling=Filling, store=StoreUnit, is_due=cython.bint)
    cpdef merge(self, Unit unit)
