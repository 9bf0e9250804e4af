from streamapp.driver.mailbox cimport Mailbox
from streamapp.driver.unit cimport Unit


cdef class Iteration:
    cdef object _stream, _inbox, _worker
    cdef Mailbox _mailbox
    cdef Unit _unit
    cdef int _turn

    cdef bint _admitted(self, Unit unit, delivery) except -1
    cdef _begin(self, Unit unit, delivery)
    cdef _finish(self)
