cimport cython

from streamapp.driver.pace cimport Pace
from streamapp.driver.unit cimport Unit
from streamapp.eos.filling cimport Filling
from streamapp.state.unit cimport Unit as StoreUnit


cdef class Merging:
    cdef Filling _filling
    cdef Pace _pace

    @cython.locals(filling=Filling, store=StoreUnit)
    cpdef bint merge(self, Unit unit) except -1
