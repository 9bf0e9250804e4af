cimport cython

from streamapp.arming cimport Arming
from streamapp.delivery.inbox cimport Fields, mark_key, packed_mark
from streamapp.driver.streams.delivery cimport DispatchedEvent
from streamapp.engine.record cimport Record
from streamapp.engine.task cimport Task
from streamapp.engine.unit cimport Unit
from streamapp.state.partition cimport TablePartition
from streamapp.state.unit cimport StoreTransaction

cdef Arming ARMED
cdef object _PROCESSED
cdef str TABLE


cdef class Inbox:
    cdef public object rule, agent
    cdef object _table
    cdef Fields _fields

    @cython.locals(
        delivery=DispatchedEvent,
        asked=list,
        marks=list,
        mark=bytes,
        fields=Fields,
        found=list,
        store=TablePartition,
        at=cython.int,
        version=cython.longlong,
    )
    cpdef look_ahead(self, Task task, deliveries)
    @cython.locals(delivery=DispatchedEvent, fresh=list, rows=StoreTransaction, store=TablePartition, version=cython.longlong)
    cpdef list admit_all(self, Unit unit, list deliveries)
    @cython.locals(store=TablePartition)
    cpdef bint admit(self, Unit unit, DispatchedEvent delivery) except -1
    @cython.locals(task=Task)
    cdef TablePartition _store(self, Unit unit)
    @cython.locals(key=bytes, content=bytes, mark=bytes, raw=bytes, record=Record)
    cdef bint _admit(self, Unit unit, StoreTransaction rows, long long version, DispatchedEvent delivery) except -1
    cdef _refuse_scattered(self, Unit unit, Record record, app)
    cdef bytes _fresh(self, StoreTransaction rows, bytes key, bytes content, bytes raw, long long appended_s)
