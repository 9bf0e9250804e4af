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

from streamapp.driver.engine import Engine
from streamapp.driver.unit import Unit, current_unit, set_current_unit
from streamapp.errors import ConfigurationError

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

    def end(self, exc: BaseException) -> None:
        """End the worker with this error."""
        self.consumer.end(exc)

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        """An agent raised inside an event, which becomes a dead letter."""
        unit = current_unit()
        assert self.engine is not None and unit is not None
        self.engine.failed(unit, exc)

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
            unit = Unit(None, [])
            set_current_unit(unit)
            try:
                result = await fun(*args)
                await engine.finish_timer(unit)
            except BaseException:
                unit.drop()
                raise
            finally:
                set_current_unit(None)
            return result

        return run
