"""What a worker starts, and the app's side of the engine: a Faust `App` gets both by inheriting from `EngineApp`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from functools import wraps
from typing import Any

import faust
from faust.app.base import BootStrategy as FaustBootStrategy
from faust.transport.drivers import TRANSPORTS

from streamapp.driver.agent import Outputs
from streamapp.driver.engine import Engine
from streamapp.driver.unit import UnitMisuse, current_unit
from streamapp.errors import ConfigurationError

SCHEME = "streamapp"
TRANSPORTS.aliases[SCHEME] = "streamapp.driver.transport:Transport"


class BootStrategy(FaustBootStrategy):
    """Faust's services; the tables are the engine's."""

    def kafka_producer(self) -> Iterable[Any]:
        """None: Faust's producer is for what is sent outside of events, and starts when something is."""
        return []

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
    #: Seconds a worker waits at its start for a broker to answer.
    broker_patience_s = 60.0
    #: What agents sent in test contexts; None where none was opened.
    outputs: Outputs | None = None

    def begin_test(self) -> None:
        """A test context is opened: nothing was sent yet, and every table is empty."""
        if self.engine is not None:
            raise UnitMisuse("a test context needs an app of its own: this one is a running worker's")
        self.outputs = Outputs()
        for table in self.tables.values():
            table.forget()

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        """An agent raised: its event becomes a dead letter, and Faust's supervisor starts the agent again."""
        unit = current_unit()
        if self.engine is not None and unit is not None:
            self.engine.failed(unit, exc)
        elif self.engine is not None:
            agent.log.error("%s raised outside of an event: %r", agent, exc, exc_info=exc)

    def _on_autodiscovery_error(self, name: str) -> None:
        """A worker without one of its agents would leave that agent's work undone and say nothing: do not start."""
        raise ConfigurationError(f"The module {name} cannot be imported, so its agents would not run.") from (
            sys.exc_info()[1]
        )

    async def on_stop(self) -> None:
        """Drain before anything is stopped: running events finish and are committed."""
        if self._consumer is not None and self.engine is not None:
            await self._consumer.drain()
        await super().on_stop()

    def timer(self, interval: Any, *args: Any, **kwargs: Any) -> Any:
        """Faust's `timer`; each run is a unit: it waits at the gate, and what it sends goes with the next commit."""
        decorate = super().timer(interval, *args, **kwargs)
        return lambda fun: decorate(self._as_unit(fun))

    def crontab(self, cron_format: str, **kwargs: Any) -> Any:
        """Faust's `crontab`; each run is a unit, as a timer's."""
        decorate = super().crontab(cron_format, **kwargs)
        return lambda fun: decorate(self._as_unit(fun))

    def _as_unit(self, fun: Any) -> Any:
        @wraps(fun)
        async def run(*args: Any) -> Any:
            engine = self.engine
            if engine is None:
                return await fun(*args)
            unit = await engine.begin_timer()
            try:
                result = await fun(*args)
            except BaseException:
                engine.drop_timer(unit)
                raise
            engine.finish_timer(unit)
            return result

        return run
