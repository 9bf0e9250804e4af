cimport cython

from streamapp.arming cimport Arming
from streamapp.driver.delivery cimport Delivery
from streamapp.driver.gate cimport Gate
from streamapp.driver.hand cimport Hand
from streamapp.driver.inbox cimport Inbox
from streamapp.driver.mailbox cimport Mailbox
from streamapp.driver.unit cimport Unit

cdef Arming ARMED


cdef class Iteration:
    cdef object _stream, _worker
    cdef Hand _hand
    cdef Inbox _inbox
    cdef Mailbox _mailbox
    cdef Unit _unit
    cdef Gate _gate
    cdef int _turn

    cdef bint _is_hurried(self) except -1
    cdef bint _admitted(self, Unit unit, Delivery delivery) except -1
    @cython.locals(hand=Hand)
    cdef _begin(self, Unit unit, Delivery delivery)
    @cython.locals(unit=Unit)
    cdef _finish(self)
