"""What is kept of the records of a window: named aggregates, folded one record at a time.

    .aggregate(count=Count(), amount=Sum("amount"), dearest=Max("amount"))

A field is a name (of a struct, a Faust record or a parsed JSON object) or a function of the record. A state is what
JSON has, because it lies in the table; a window without records has no state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from operator import attrgetter, itemgetter
from typing import Any, Protocol

from streamapp import finite
from streamapp.errors import ConfigurationError, RecordError

Field = str | Callable[[Any], Any]

#: Kafka's other readers have 64 bits.
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
#: Most values a window collects, unless the declaration says otherwise.
COLLECTED_MAX = 1000
#: The kind of the dead letter of a record that a window has no room for.
FULL = "WindowFull"
_NOTHING: dict[str, Any] = {}


class Aggregate(Protocol):
    """One number (or list, or object) that a window is about. Pure: a state is never changed in place."""

    def fold(self, state: Any, value: Any, time: int) -> Any:
        """The state with one record more; `state` None: it is the first. `RecordError`: the record cannot count."""

    def result(self, state: Any) -> Any:
        """What is shown of the state; `state` None: none of the window's records was folded."""

    def merge(self, state: Any, other: Any) -> Any:
        """The state of both windows' records, for kinds whose windows grow together."""


class _Shown:
    """A state that is its own result."""

    def result(self, state: Any) -> Any:
        return state


class _Added(_Shown):
    """... and that begins with nothing."""

    def result(self, state: Any) -> Any:
        return 0 if state is None else state


class Count(_Added):
    """How many records."""

    def fold(self, state: Any, value: Any, time: int) -> Any:
        return 1 if state is None else state + 1

    def merge(self, state: Any, other: Any) -> Any:
        return state + other


class Sum(_Added):
    """The sum of a field. A record that would take a sum of integers beyond 64 bits is a `RecordError`."""

    def __init__(self, field: Field) -> None:
        self._get = getter(field)

    def fold(self, state: Any, value: Any, time: int) -> Any:
        more = number(self._get(value))
        return _within(more if state is None else state + more)

    def merge(self, state: Any, other: Any) -> Any:
        return _within(state + other)


class Min(_Shown):
    """The smallest value of a field."""

    def __init__(self, field: Field) -> None:
        self._get = getter(field)

    def fold(self, state: Any, value: Any, time: int) -> Any:
        found = number(self._get(value))
        return found if state is None else min(state, found)

    def merge(self, state: Any, other: Any) -> Any:
        return min(state, other)


class Max(_Shown):
    """The largest value of a field."""

    def __init__(self, field: Field) -> None:
        self._get = getter(field)

    def fold(self, state: Any, value: Any, time: int) -> Any:
        found = number(self._get(value))
        return found if state is None else max(state, found)

    def merge(self, state: Any, other: Any) -> Any:
        return max(state, other)


class Mean:
    """The mean of a field, from its exact sum and count."""

    def __init__(self, field: Field) -> None:
        self._get = getter(field)

    def fold(self, state: Any, value: Any, time: int) -> Any:
        total, count = state or (0, 0)
        return [_within(total + number(self._get(value))), count + 1]

    def result(self, state: Any) -> Any:
        return None if state is None else state[0] / state[1]

    def merge(self, state: Any, other: Any) -> Any:
        return [_within(state[0] + other[0]), state[1] + other[1]]


class Last:
    """The value of the record with the highest event time; of several, the one that came last."""

    def __init__(self, field: Field) -> None:
        self._get = getter(field)

    def fold(self, state: Any, value: Any, time: int) -> Any:
        return [time, self._get(value)] if state is None or time >= state[0] else state

    def result(self, state: Any) -> Any:
        return None if state is None else state[1]

    def merge(self, state: Any, other: Any) -> Any:
        return other if other[0] >= state[0] else state


class Collect(_Shown):
    """The values of a field, in the order the records came.

    A record beyond `most` is a `RecordError`: a list that grew for ever would end as an upsert no topic takes.
    """

    def __init__(self, field: Field, most: int = COLLECTED_MAX) -> None:
        self._get = getter(field)
        self._most = most

    def fold(self, state: Any, value: Any, time: int) -> Any:
        return self._bounded([*(state or ()), self._get(value)])

    def merge(self, state: Any, other: Any) -> Any:
        return self._bounded([*state, *other])

    def _bounded(self, values: list[Any]) -> list[Any]:
        if len(values) > self._most:
            raise RecordError(f"its window has collected {self._most:,} values already", kind=FULL)
        return values


class Reduce(_Shown):
    """A reducer of your own: `function(state, record)` returns the next state, beginning with `initial`.

    It must return a new state, made of what JSON has, and depend on nothing but its arguments: after a crash it is
    called again. `merge` is needed only for kinds whose windows grow together.
    """

    def __init__(
        self, function: Callable[[Any, Any], Any], initial: Any = None, merge: Callable[[Any, Any], Any] | None = None
    ) -> None:
        self._function = function
        self._initial = initial
        self._merge = merge

    def fold(self, state: Any, value: Any, time: int) -> Any:
        return self._function(self._initial if state is None else state, value)

    def merge(self, state: Any, other: Any) -> Any:
        if self._merge is None:
            raise ConfigurationError("Reduce: windows that grow together need merge=, a function of two states.")
        return self._merge(state, other)


class Aggregates:
    """The named aggregates of a table. The state of a window is an object: name -> state.

    An aggregate that was added while windows are open begins with the next record of each. One that was taken away is
    forgotten with the next record.
    """

    def __init__(self, named: Mapping[str, Aggregate]) -> None:
        if not named:
            raise ConfigurationError("aggregate() needs at least one: aggregate(count=Count())")
        self._named = dict(named)
        self._folds = [(name, one.fold) for name, one in named.items()]
        #: Somebody else's, whose results may be what cannot be sent, though the state can be kept.
        self._foreign = [(name, one.result) for name, one in named.items() if type(one).__module__ != __name__]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._named)

    def fold(self, state: Any, value: Any, time: int) -> Any:
        before = state.get if state else _NOTHING.get
        return {name: fold(before(name), value, time) for name, fold in self._folds}

    def dump(self, state: Any) -> bytes:
        """The state as it is kept. Raises what its final would raise: then it is the record's fault."""
        for name, result in self._foreign:
            finite.encode(result(state.get(name)))
        return finite.encode(state)

    def result(self, state: Any) -> dict[str, Any]:
        return {name: one.result(state.get(name)) for name, one in self._named.items()}

    def merge(self, state: Any, other: Any) -> Any:
        both = {name: self._named[name].merge(state[name], other[name]) for name in state.keys() & other.keys()}
        return {**other, **state, **both}


def getter(field: Field) -> Callable[[Any], Any]:
    """Reads a field of a record, or calls the function given for it."""
    if callable(field):
        return field

    of_object, of_mapping = attrgetter(field), itemgetter(field)

    def get(value: Any) -> Any:
        try:
            return of_mapping(value) if isinstance(value, dict) else of_object(value)
        except (AttributeError, KeyError):
            raise RecordError(f"the record has no {field} to add up", kind="InvalidRecord") from None

    return get


def number(found: Any) -> Any:
    """`found` if it can be added and compared; true and false, texts, NaN and the rest are a `RecordError`."""
    if type(found) is int:
        return found
    if isinstance(found, bool) or not isinstance(found, int | float) or not isfinite(found):
        raise RecordError(f"{found!r} is no number to add up", kind="InvalidRecord")
    return found


def _within(total: Any) -> Any:
    if not (_INT_MIN <= total <= _INT_MAX if isinstance(total, int) else isfinite(total)):
        raise RecordError("with it the sum of its window would leave 64 bits", kind="SumTooLarge")
    return total
