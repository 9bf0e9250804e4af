"""The windows of one key as Faust has them: `table[key] += 1`, `table[key].current()`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from streamapp.engine.unit import UnitMisuse


class KeyWindows(Protocol):
    """What is asked of the windowed table."""

    def value_at(self, key: Any, ago: Any = 0) -> Any: ...

    def apply(self, key: Any, operation: Callable[[Any, Any], Any], operand: Any) -> None: ...


class WindowSet:
    """The windows of one key. What is changed is changed in every window that the current event is in."""

    def __init__(self, table: KeyWindows, key: Any) -> None:
        self._table = table
        self._key = key

    def current(self) -> Any:
        """The value in the window of the current event; of several windows the last to begin."""
        return self._table.value_at(self._key)

    value = current

    def delta(self, ago: Any) -> Any:
        """The value in the window `ago` seconds (or a timedelta) before the current event."""
        return self._table.value_at(self._key, ago)

    def now(self) -> NoReturn:
        """Refused."""
        raise UnitMisuse("now() would read the wall clock, which decides no window. Write .current().")

    def apply(self, operation: Callable[[Any, Any], Any], operand: Any) -> WindowSet:
        """Change each window of the current event."""
        self._table.apply(self._key, operation, operand)
        return self

    def __iadd__(self, other: Any) -> WindowSet:
        return self.apply(operator.add, other)

    def __isub__(self, other: Any) -> WindowSet:
        return self.apply(operator.sub, other)

    def __imul__(self, other: Any) -> WindowSet:
        return self.apply(operator.mul, other)

    def __ior__(self, other: Any) -> WindowSet:
        return self.apply(operator.or_, other)

    def __iand__(self, other: Any) -> WindowSet:
        return self.apply(operator.and_, other)
