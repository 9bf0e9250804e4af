"""Every error of the platform, named by what the caller must do about it.

    StreamAppError
    ├── ConfigurationError      do not start; say what to change
    │   └── Unavailable         do not start yet: a broker or a database does not answer
    ├── RecordError             this record goes to the dead-letter topic; go on with the next
    ├── TransactionAborted      nothing happened; rewind to the committed offsets and go on
    ├── Fenced                  someone newer owns it; drop the partitions, never retry
    │   └── InstanceFenced      a twin of this INSTANCE is newer; end the process
    ├── StateCorrupted          wipe that store and restore it from its changelog
    └── StoreError              the disk refused; stop, nothing committed is lost

A client's exception becomes one of these in one place (`eos/producer.py`); an exception that is none of
these is a defect and ends the worker. Business outcomes ("insufficient funds") are values, never exceptions.
"""

from __future__ import annotations

import signal


class StreamAppError(Exception):
    """Root of everything the platform raises on purpose. `str()` is a sentence a person can act on."""


class ConfigurationError(StreamAppError):
    """Settings, topics or a directory are wrong: nothing was started and nothing was changed.

    `problems` holds every problem found, so that one look is enough to mend them all.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Unavailable(ConfigurationError):
    """A broker or database did not answer in the time allowed. Trying again later is right."""


class RecordError(StreamAppError):
    """This record can never be processed: it goes to the dead-letter topic with `kind` and the message.

    `kind` is the name written to the header `dlt-exception-fqcn`.
    """

    def __init__(self, message: str, *, kind: str = "MalformedRecord") -> None:
        self.kind = kind
        super().__init__(message)


class ProcessDied(BaseException):
    """Unwinds what runs in a simulated process that has died. Nobody may catch it: the process is dead already."""


def is_the_events(error: BaseException) -> bool:
    """Whether what was raised while an event was read is that event's failure, and no trouble of the worker's.

    Somebody's code may raise anything for what a record contains, `SystemExit` too.
    """
    # By its type: `isinstance` would ask the exception itself, whose `__class__` may say or raise anything.
    kind = type(error)
    return issubclass(kind, RecordError) or not (issubclass(kind, StreamAppError | ProcessDied) or interrupts(kind))


def interrupts(kind: type[BaseException]) -> bool:
    """Whether an exception of this class is somebody's Ctrl-C, which must get through.

    A worker takes the signal by its event loop: a `KeyboardInterrupt` that comes out of an agent there is the agent's
    own, like any other exception.
    """
    return issubclass(kind, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def kind_of(error: BaseException) -> str:
    """What kind of error it is: a `RecordError`'s `kind`, else the full name of its class. Never raises."""
    try:
        if issubclass(type(error), RecordError):
            return _encodable(error.kind)  # type: ignore[attr-defined]
        return _encodable(f"{type(error).__module__}.{type(error).__qualname__}")
    except BaseException:  # noqa: BLE001 - a `kind` that is no text or was never set, a metaclass that raises
        return "RecordError" if issubclass(type(error), RecordError) else _name(error)


def _encodable(text: str) -> str:
    """Text with what UTF-8 cannot have escaped. `TypeError` for what is no text."""
    return str.encode(text, "utf-8", "backslashreplace").decode()


def _name(error: BaseException) -> str:
    """The name of its class, whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name


def text_of(error: BaseException) -> str:
    """What an exception says, as text that can be encoded. Never raises, whatever the exception's own code does."""
    try:
        text = str(error)
    except BaseException as exc:  # noqa: BLE001 - somebody else's __str__, which may raise anything
        return f"(its text cannot be had: {_name(exc)})"
    return _encodable(text)


def brief(error: BaseException) -> str:
    """An exception in a line of bounded length: its class, and what it says."""
    text = text_of(error)
    shown = text if len(text) <= _BRIEF_MAX else f"{text[:_BRIEF_MAX]}... ({len(text):,} characters)"
    return f"{_name(error)}: {shown}"


#: Most characters that are shown of what an exception says: it may be all of a record.
_BRIEF_MAX = 500


class TransactionAborted(StreamAppError):
    """The transaction had no effect. Drop the overlays, rewind to the committed offsets, run the events again."""


class Fenced(StreamAppError):
    """A newer generation or epoch owns the work. Whatever was open is dropped and must never be retried."""


class InstanceFenced(Fenced):
    """Another process runs under the same INSTANCE and is newer. This process ends and does not rejoin."""


class StateCorrupted(StreamAppError):
    """A store's files are damaged or belong to something else. Wipe that store and restore it."""


class StoreError(StreamAppError):
    """The disk refused a read or a write. Stop: what was committed is in Kafka and comes back by restore."""
