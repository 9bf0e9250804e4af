cimport cython

cdef long _LOOPED_BYTES
cdef long MAX_RECORD_BYTES


cdef class Decoder:
    cdef object _decode, _declared, _more, _names
    cdef long _easy_bytes, _marks

    @cython.locals(more=cython.long)
    cpdef decode(self, bytes value)
    cpdef load(self, bytes value)


@cython.locals(byte=cython.uchar, found=cython.long)
cpdef long quotation_marks(bytes value)
