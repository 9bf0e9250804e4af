cimport cython

from streamapp.driver.delivery cimport Delivery, unread
from streamapp.driver.inbox cimport Inbox
from streamapp.driver.mailbox cimport Mailbox
from streamapp.driver.reader cimport Reader
from streamapp.driver.record cimport Record
from streamapp.driver.task cimport Task
from streamapp.driver.unit cimport Unit

cdef int _AHEAD


cdef class TopicRoute:
    cdef object _app, _readers, _windowed
    cdef public object topic, partition_count
    cdef public int lanes, batch
    cdef Reader _reader
    cdef Mailbox _mailbox
    cdef object __weakref__

    @cython.locals(records=list, delivery=Delivery)
    cpdef deliver(self, Unit unit)
    @cython.locals(one=Record, inbox=Inbox, delivery=Delivery)
    cdef Delivery _next(self, Task task, Record record)
    @cython.locals(delivery=Delivery)
    cdef Delivery _read_one(self, Record record)


@cython.locals(record=Record, delivery=Delivery, deliveries=list)
cdef list _read_all(app, Reader reader, Unit unit)
