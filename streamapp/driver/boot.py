"""What a worker starts, and the app's side of the engine: a Faust `App` gets both by inheriting from `EngineApp`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import faust
from faust.app.base import BootStrategy as FaustBootStrategy
from faust.transport.drivers import TRANSPORTS

from streamapp.driver.engine import Engine
from streamapp.driver.unit import Unit, UnitMisuse, current_unit, set_current_unit

SCHEME = "streamapp"
TRANSPORTS.aliases[SCHEME] = "streamapp.driver.transport:Transport"


class BootStrategy(FaustBootStrategy):
    """Faust's services; the tables are the engine's."""

    def tables(self) -> Iterable[Any]:
        return [self.app.tables]


class EngineApp(faust.App):
    """The parts of `App` that touch the engine or Faust's insides."""

    BootStrategy = BootStrategy
    #: Where mode's life-cycle lines go, so that they are as quiet as Faust's own.
    logger = logging.getLogger("faust.app")

    #: Set while a worker runs.
    engine: Engine | None = None
    #: Why the worker ended, if it was an error.
    failure: BaseException | None = None

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        """An agent raised: its event becomes a dead letter, and Faust's supervisor starts the agent again."""
        unit = current_unit()
        if self.engine is not None and unit is not None:
            self.engine.failed(unit, exc)
        elif self.engine is not None:
            agent.log.error("%s raised outside of an event: %r", agent, exc, exc_info=exc)

    async def on_stop(self) -> None:
        """Drain before anything is stopped: running events finish and are committed."""
        if self._consumer is not None and self.engine is not None:
            await self._consumer.drain()
        await super().on_stop()

    def _prepared_timer(self, fun: Any) -> Any:
        """A timer's run is a unit: it waits at the gate, and what it sends goes with the next commit."""

        async def run(*args: Any) -> Any:
            engine = self.engine
            if engine is None:
                return await fun(*args)
            await engine.gate.entered()
            unit = Unit(None, [])
            set_current_unit(unit)
            try:
                result = await fun(*args)
            except BaseException:
                unit.drop()
                engine.gate.leave()
                raise
            finally:
                set_current_unit(None)
            unit.live = False
            engine.finished(unit)
            engine.gate.leave()
            return result

        run.__name__ = getattr(fun, "__name__", "timer")
        return run


def forbid_ask(*_: Any, **__: Any) -> Any:
    """`agent.ask()` inside an event waits for another event, which waits for this one's commit."""
    raise UnitMisuse("ask() inside an event would wait for its own commit, for ever. Send to a topic instead.")
