from streamapp.driver.record cimport Record


cdef class Delivery:
    cdef public object app, key, value, unit
    cdef public Record record
    cdef object _event

    cpdef event(self)
