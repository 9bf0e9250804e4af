cimport cython

from streamapp.arming cimport Arming
from streamapp.delivery.inbox cimport Fields, mark_key, packed_mark
from streamapp.driver.streams.delivery cimport Delivery
from streamapp.engine.record cimport Record
from streamapp.engine.task cimport Task
from streamapp.engine.unit cimport Unit
from streamapp.state.partition cimport Partition as StorePartition
from streamapp.state.unit cimport Unit as StoreUnit

cdef Arming ARMED
cdef object _PROCESSED
cdef str TABLE


cdef class Inbox:
    cdef public object rule, agent
    cdef object _table
    cdef Fields _fields

    @cython.locals(
        delivery=Delivery,
        asked=list,
        marks=list,
        mark=bytes,
        fields=Fields,
        found=list,
        store=StorePartition,
        at=cython.int,
        version=cython.longlong,
    )
    cpdef look_ahead(self, Task task, deliveries)
    @cython.locals(delivery=Delivery, fresh=list, rows=StoreUnit, store=StorePartition, version=cython.longlong)
    cpdef list admit_all(self, Unit unit, list deliveries)
    @cython.locals(store=StorePartition)
    cpdef bint admit(self, Unit unit, Delivery delivery) except -1
    @cython.locals(task=Task)
    cdef StorePartition _store(self, Unit unit)
    @cython.locals(key=bytes, content=bytes, mark=bytes, raw=bytes, record=Record)
    cdef bint _admit(self, Unit unit, StoreUnit rows, long long version, Delivery delivery) except -1
    cdef _refuse_scattered(self, Unit unit, Record record, app)
    cdef bytes _fresh(self, StoreUnit rows, bytes key, bytes content, bytes raw, long long appended_s)
