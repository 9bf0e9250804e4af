cimport cython

from streamapp.engine.gate cimport Gate
from streamapp.engine.input cimport Input
from streamapp.engine.record cimport Record
from streamapp.engine.unit cimport Unit


cdef class Task:
    cdef public int number
    cdef public dict routes, inputs, stores
    cdef public object intent_number
    cdef public bint held
    cdef dict _by_topic
    cdef public object _buffer, ahead
    cdef public dict _running
    cdef int _singles
    cdef bint _flushing, _advancing, _stopped
    cdef public Gate gate
    cdef object _work
    cdef object __weakref__

    cpdef advance(self)
    @cython.locals(lane=object, most=int, record=Record)
    cdef _start_next(self)
    @cython.locals(records=list, record=Record, it=Input)
    cdef list _take_records(self, int most)
    @cython.locals(records=list, record=Record)
    cpdef list next_records(self, str topic, int most)
    @cython.locals(record=Record, it=Input)
    cpdef push_back(self, list records)
    cdef Input _input(self, str topic)
    @cython.locals(unit=Unit)
    cdef _start(self, lane, route, list records)
    @cython.locals(last=Record)
    cpdef finish(self, Unit unit)
    cpdef retry(self, Unit unit)
