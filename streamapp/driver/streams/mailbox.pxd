cdef class Mailbox:
    cdef public object items, inbox
    cdef object _waiter

    cpdef put(self, unit, item)
