"""`after_commit(handler, payload)`: a handler that runs once the event is committed, also after a crash.

    @after_commit.handler
    async def notify(payload, intent_id): ...

    async for transfer in stream:
        after_commit(notify, {"account": transfer.to_account})

At least once: hand `intent_id` to whatever must not act twice. In order within a task. What a handler sends goes with
the removal of its intent, in one transaction. It cannot use tables, which belong to events.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

import msgspec
from faust.streams import current_event

from streamapp.delivery.after_commit import TABLE, Intent, intent_id, pack
from streamapp.driver.tables.table import Table
from streamapp.engine.unit import Unit, UnitMisuse, required_unit
from streamapp.errors import ConfigurationError

#: (payload, intent id), or the payload alone.
Handler = Callable[..., Awaitable[Any]]

_NAME = "after_commit_name"


class Staged:
    """What `after_commit()` returns: it need not be awaited. Without a worker, awaiting it runs the handler."""

    def __init__(self, run: Callable[[], Awaitable[Any]] | None = None) -> None:
        self._run = run

    def __await__(self) -> Generator[Any, None, None]:
        if self._run is not None:
            yield from self._run().__await__()


_STAGED = Staged()


class AfterCommitCall:
    """The object `after_commit`: call it in an event; `handler` registers functions for every app of the process."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}

    def handler(self, fun: Any = None, *, name: str | None = None) -> Any:
        """A decorator, with a name or without (then module and function). The name is in the table: keep it."""
        return register(self.handlers, fun, name)

    def __call__(self, handler: str | Handler, payload: Any) -> Staged:
        """Have `handler` run with `payload` (anything JSON has) once this event is committed.

        Raises `UnitMisuse` outside of an event, and for an unknown handler or a payload that is not JSON.
        """
        event: Any = current_event()
        app = event.app if event is not None else None
        if app is not None and app.engine is None:
            name = self._known(handler, app)
            intent = Intent(name, name, msgspec.json.decode(_packed(name, payload, 0))[1], 0)
            return Staged(lambda: run_intent(app.intent_handlers, intent))
        unit = required_unit("after_commit()")
        if app is None or unit.task is None:
            raise UnitMisuse("after_commit() in a timer or a handler: an intent belongs to the task of an event.")
        self._stage(unit, self._known(handler, app), payload)
        return _STAGED

    def _stage(self, unit: Unit, name: str, payload: Any) -> None:
        task, record = unit.task, unit.records[-1]
        store = task.stores.get(TABLE)
        if store is None:
            raise ConfigurationError(
                f"after_commit() for {record.topic}, which has another number of partitions than the table {TABLE}. "
                "Give the topics an app consumes one number, or part the app."
            )
        key = intent_id(record.topic, record.partition, record.offset, unit.intent_count)
        unit.store(store).set(key.encode(), _packed(name, payload, task.intent_number))
        unit.intent_count += 1
        task.intent_number += 1

    def _known(self, handler: str | Handler, app: Any) -> str:
        name = handler if isinstance(handler, str) else getattr(handler, _NAME, None)
        if name is None or name not in app.intent_handlers:
            shown = handler if isinstance(handler, str) else getattr(handler, "__qualname__", repr(handler))
            raise UnitMisuse(
                f"after_commit: {shown} is no handler of this app. Put @after_commit.handler above the function."
            )
        return str(name)


def register(handlers: dict[str, Handler], fun: Any, name: str | None) -> Any:
    """Add a function to `handlers`, as a decorator where it is not given."""
    if fun is None:
        return lambda given: register(handlers, given, name)
    if not inspect.iscoroutinefunction(fun):
        raise ConfigurationError(f"after_commit: the handler {fun.__qualname__} must be an async function.")
    name = name or f"{fun.__module__}.{fun.__qualname__}"
    if handlers.setdefault(name, fun) is not fun:
        raise ConfigurationError(f"after_commit: two handlers are called {name}. Give one of them another name.")
    setattr(fun, _NAME, name)
    return fun


async def run_intent(handlers: Mapping[str, Handler], intent: Intent) -> None:
    """Run the handler of an intent. `ConfigurationError` when there is none: it is still owed."""
    handler = handlers.get(intent.handler)
    if handler is None:
        raise ConfigurationError(
            f"There is no handler {intent.handler} any more. Register one of that name, and {intent.id} is run."
        )
    wants_id = len(inspect.signature(handler).parameters) > 1
    await (handler(intent.payload, intent.id) if wants_id else handler(intent.payload))


def _packed(name: str, payload: Any, number: int) -> bytes:
    try:
        return pack(name, payload, number)
    except TypeError as exc:
        raise UnitMisuse(f"after_commit: the payload of {name} is not JSON: {exc}") from None


class IntentTable(Table):
    """The intents of an app. Agents do not read it."""

    def __init__(self, app: Any) -> None:
        super().__init__(app, name=TABLE, help="Handlers that are to run after a commit, by intent id")


after_commit = AfterCommitCall()
