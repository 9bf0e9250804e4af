cimport cython

from streamapp.driver.streams.delivery cimport DispatchedEvent, unread
from streamapp.driver.streams.inbox cimport Inbox
from streamapp.driver.streams.mailbox cimport Mailbox
from streamapp.engine.reader cimport Reader
from streamapp.engine.record cimport Record
from streamapp.engine.task cimport Task
from streamapp.engine.unit cimport Unit

cdef int _AHEAD


cdef class TopicDispatcher:
    cdef object _app, _readers, _windowed
    cdef public object topic, partition_count
    cdef public int lanes, batch
    cdef Reader _reader
    cdef Mailbox _mailbox
    cdef object __weakref__

    @cython.locals(records=list, delivery=DispatchedEvent)
    cpdef deliver(self, Unit unit)
    @cython.locals(one=Record, inbox=Inbox, delivery=DispatchedEvent)
    cdef DispatchedEvent _next(self, Task task, Record record)
    @cython.locals(delivery=DispatchedEvent)
    cdef DispatchedEvent _read_one(self, Record record)


@cython.locals(record=Record, delivery=DispatchedEvent, deliveries=list)
cdef list _read_all(app, Reader reader, Unit unit)
