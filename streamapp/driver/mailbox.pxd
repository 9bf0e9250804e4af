cdef class Mailbox:
    cdef public object items
    cdef object _waiter

    cpdef put(self, unit, item)
