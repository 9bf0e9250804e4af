from streamapp.engine.reader cimport Reader
from streamapp.engine.record cimport Record


cdef class FaustReader(Reader):
    cdef object _app, _schema

    cpdef tuple read(self, Record record)
