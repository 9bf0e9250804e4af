cimport cython

from streamapp.driver.delivery cimport Delivery
from streamapp.driver.mailbox cimport Mailbox
from streamapp.driver.record cimport Record
from streamapp.driver.unit cimport Unit


cdef class TopicRoute:
    cdef object _app, _partition_count, _readers, _windowed
    cdef public object topic
    cdef public int lanes, batch
    cdef object _read
    cdef Mailbox _mailbox
    cdef object __weakref__

    @cython.locals(records=list, record=Record)
    cpdef deliver(self, Unit unit)
