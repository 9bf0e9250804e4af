cimport cython

from streamapp.arming cimport Arming
from streamapp.engine.unit cimport Unit, current_unit
from streamapp.eos.record_accumulator cimport RecordAccumulator
from streamapp.eos.partitioner cimport Partitioner

cdef Arming ARMED
cdef int ROOM


cdef class TopicSender:
    cdef public object engine
    cdef object _accepted, _app, _name, _schema, _encode, _known, _type
    cdef RecordAccumulator _filling
    cdef Partitioner _partitioner
    cdef dict _topics
    cdef int _count
    cdef long long _roomy

    cpdef send_soon(self, key, value)
    @cython.locals(unit=Unit, text=str, raw_key=bytes, raw_value=bytes, size="long long")
    cdef _stage(self, key, value)
    @cython.locals(unit=Unit, filling=RecordAccumulator)
    cdef _stage_as(self, form, key, value)
