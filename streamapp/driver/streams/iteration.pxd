cimport cython

from streamapp.arming cimport Arming
from streamapp.driver.streams.delivery cimport DispatchedEvent
from streamapp.engine.gate cimport Gate
from streamapp.driver.streams.cursor cimport StreamCursor
from streamapp.driver.streams.inbox cimport Inbox
from streamapp.driver.streams.mailbox cimport Mailbox
from streamapp.engine.unit cimport Unit

cdef Arming ARMED


cdef class Iteration:
    cdef object _stream, _worker
    cdef StreamCursor _hand
    cdef Inbox _inbox
    cdef Mailbox _mailbox
    cdef Unit _unit
    cdef Gate _gate
    cdef int _turn

    cdef bint _is_hurried(self) except -1
    cdef bint _admitted(self, Unit unit, DispatchedEvent delivery) except -1
    @cython.locals(hand=StreamCursor)
    cdef _begin(self, Unit unit, DispatchedEvent delivery)
    @cython.locals(unit=Unit)
    cdef _finish(self)
