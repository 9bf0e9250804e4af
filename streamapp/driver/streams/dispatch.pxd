cimport cython

from streamapp.driver.streams.delivery cimport Delivery, unread
from streamapp.driver.streams.inbox cimport Inbox
from streamapp.driver.streams.mailbox cimport Mailbox
from streamapp.engine.reader cimport Reader
from streamapp.engine.record cimport Record
from streamapp.engine.task cimport Task
from streamapp.engine.unit cimport Unit

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
