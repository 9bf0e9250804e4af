cimport cython

from streamapp.delivery.inbox cimport Fields, mark_key, packed_mark
from streamapp.driver.delivery cimport Delivery
from streamapp.driver.record cimport Record
from streamapp.driver.unit cimport Unit
from streamapp.state.unit cimport Unit as StoreUnit


cdef class Inbox:
    cdef public object rule, agent
    cdef object _table
    cdef Fields _fields

    @cython.locals(key=bytes, mark=bytes, record=Record)
    cpdef bint admit(self, Unit unit, Delivery delivery) except -1
    cdef bytes _fresh(self, StoreUnit rows, bytes key, value, appended_s)
