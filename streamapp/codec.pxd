cimport cython

cdef long _LOOPED_BYTES
cdef long MAX_RECORD_BYTES
cdef int NESTING_MAX


cdef class Decoder:
    cdef object _decode

    cpdef decode(self, bytes value)


@cython.locals(byte=cython.uchar, found=cython.long)
cpdef long brackets(bytes value)
