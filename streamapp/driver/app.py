"""What a worker starts, and the app's side of the engine: a Faust `App` gets both by inheriting from `EngineApp`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterable, Mapping
from functools import wraps
from typing import Any

import faust
from faust.app.base import BootStrategy as FaustBootStrategy
from faust.transport.drivers import TRANSPORTS

from streamapp.clock import SYSTEM_CLOCK, Clock
from streamapp.delivery.after_commit import TABLE as INTENTS
from streamapp.delivery.inbox import TABLE as INBOX
from streamapp.driver import crontab, faust_json
from streamapp.driver.discovery import import_discovered, nothing_to_run, searched_first, searched_for, service_root
from streamapp.driver.placements import Placements
from streamapp.driver.session import Session
from streamapp.driver.streams.test_outputs import Outputs
from streamapp.driver.tables.after_commit import Handler, IntentTable, after_commit, register
from streamapp.driver.tables.inbox import InboxTable
from streamapp.driver.tables.row_upserts import RowUpserts
from streamapp.driver.tables.windowed import WindowedTable
from streamapp.engine.engine import Engine
from streamapp.engine.environment import Environment
from streamapp.engine.unit import Unit, UnitMisuse, clear_current, current_unit, set_current
from streamapp.eos.partitioner import DEFAULT, Partitioner
from streamapp.errors import ConfigurationError
from streamapp.topics import CONTRACT
from streamapp.types import Partition

SCHEME = "streamapp"
TRANSPORTS.aliases[SCHEME] = "streamapp.driver.transport:Transport"


_WHERE_ROWS_ARE = "keep a Table, and look its rows up where they are: group_by() the events to the table's key"


_VIEWS_INSTEAD = "Use /tables/<table>/<key> of `streamapp worker`, which any worker answers."


class BootStrategy(FaustBootStrategy):
    """Faust's services; the tables are the engine's."""

    def kafka_producer(self) -> Iterable[Any]:
        """None: Faust's producer is for what is sent outside of events, and starts when something is."""
        return []

    def tables(self) -> Iterable[Any]:
        return [self.app.tables]

    def web_server(self) -> Iterable[Any]:
        """None: `faust worker` would show what is not committed, to everybody."""
        return []


class EngineApp(faust.App):
    """The parts of `App` that touch the engine or Faust's insides."""

    BootStrategy = BootStrategy
    #: Where mode's life-cycle lines go, so that they are as quiet as Faust's own.
    logger = logging.getLogger("faust.app")

    _engine: Engine | None = None
    #: Where it runs; None: real Kafka, as the settings say.
    environment: Environment | None = None
    #: What it has while it is connected.
    session: Session | None = None
    #: Where its views answer; None where there are none.
    views_address: str | None = None
    #: Why the worker ended, if it was an error.
    failure: BaseException | None = None
    #: Seconds a worker waits at its start for a broker to answer.
    broker_patience_s = 60.0
    #: Whether a static member gives its seat back when it has drained, instead of keeping it for its session.
    gives_seat_back = False
    #: Whether it is the service's app (`streamapp.app.use`), whose agents and tables are installed with it.
    is_the_service = False
    #: Topics that say which partitioner all their senders use.
    partitioners: dict[str, Partitioner]
    #: What agents sent in test contexts; None where none was opened.
    outputs: Outputs | None = None

    @property
    def engine(self) -> Engine | None:
        """Set while a worker runs."""
        return self._engine

    @engine.setter
    def engine(self, engine: Engine | None) -> None:
        self._engine = engine
        for topic in self.sending:
            topic.shut()
        self.sending.clear()

    def begin_test(self) -> None:
        """A test context is made: sends are collected from here on, tables and inbox live in memory."""
        if self.engine is not None:
            raise UnitMisuse("a test context needs an app of its own: this one is a running worker's")
        if self.outputs is None:
            self.outputs = Outputs()

    def forget_tests(self) -> None:
        """Empty `outputs`, tables and inbox, so that the next test begins anew."""
        self.outputs = None
        for table in self.tables.values():
            table.forget()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: What was declared and cannot be done exactly once, each with what to use instead.
        self.refusals: list[str] = []
        #: Topics that were sent to while the engine runs.
        self.sending: list[Any] = []
        self._intent_handlers: dict[str, Handler] = {}
        #: Topics that tables send their rows to; missing ones are created compacted.
        self.upsert_topics: set[str] = set()
        #: Of plain tables, those that are sent at most once in a while.
        self.limited_upserts: list[RowUpserts] = []
        faust_json.install()
        super().__init__(*args, **kwargs)

    @property
    def windowed_tables(self) -> list[WindowedTable]:
        """The tables with windows."""
        return [table.windowed for table in self.tables.values() if table.windowed is not None]

    def after_commit(self, name: str) -> Any:
        """A decorator: an async function that `after_commit(name, payload)` has run after an event's commit."""
        return register(self._intent_handlers, None, name)

    @property
    def intent_handlers(self) -> Mapping[str, Handler]:
        """Handlers by name: this app's own, and those for every app of the process."""
        return {**after_commit.handlers, **self._intent_handlers}

    @property
    def reads(self) -> list[str]:
        """Topics that the running worker has subscribed to."""
        return [] if self._consumer is None else self._consumer.reads

    def end(self, exc: BaseException) -> None:
        """End the worker with this error."""
        self.consumer.end(exc)

    def _create_directories(self) -> None:
        """Nothing: the state directory is the engine's, and Faust's own would lie empty in the current directory."""

    def use_inbox(self) -> InboxTable:
        """The app's table of marks, made when its first inbox asks for it."""
        table = self.tables.get(INBOX)
        if table is None:
            table = self._added(InboxTable(self, self.settings.inbox_retention))
        if not isinstance(table, InboxTable):
            raise ConfigurationError(f"The name {INBOX} is the inbox's. Call your own table something else.")
        return table

    def add_intents(self) -> None:
        """Add the table of what is to be done after commits, where anything can be."""
        if self.intent_handlers and INTENTS not in self.tables:
            self._added(IntentTable(self))

    def _added(self, table: Any) -> Any:
        """Add a table of the app's own, which needs no declaration."""
        try:
            return self.tables.add(table)
        except RuntimeError as exc:
            raise ConfigurationError(
                f"The table {table.name} is first needed by an agent that is running already. Use the decorator, or "
                "call it before the agent awaits anything."
            ) from exc

    def agent(self, channel: Any = None, **options: Any) -> Any:
        """Faust's `agent`; one with `@inbox` brings the app's table of marks with it."""
        decorate = super().agent(channel, **options)

        def declare(fun: Any) -> Any:
            agent = decorate(fun)
            rule = getattr(fun, "inbox_rule", None)
            if rule is not None:
                codec = getattr(getattr(channel, "schema", None), "codec", None)
                rule.check(getattr(codec, "record_type", None), agent.name)
                self.use_inbox().agents.append(agent)
            return agent

        return declare

    def refuse(self, problem: str) -> None:
        """Something declared cannot be done exactly once: the worker will not start, and say it with all the others."""
        self.refusals.append(problem)

    def problems(self) -> list[str]:
        """Everything that was declared and cannot be done, each with what to do."""
        agents = self.agents.values()
        concurrent = {
            name for agent in agents if agent.concurrency > 1 for name in getattr(agent.channel, "topics", ())
        }
        problems = [
            *self.refusals,
            *(problem for agent in agents for problem in agent.problems()),
            *(problem for windows in self.windowed_tables for problem in windows.problems(concurrent)),
            *self._misplaced(),
        ]
        if not (self.agents or self._app_tasks or self._extra_services):
            problems.append(nothing_to_run(self.conf.id, self._discovery_modules()))
        return problems

    async def on_start(self) -> None:
        """Refuse to start (`ConfigurationError`) with everything that was declared and cannot be done."""
        if problems := self.problems():
            raise ConfigurationError(*problems)
        await super().on_start()

    def _misplaced(self) -> Iterable[str]:
        """Declared partitioners that cannot be: of the service's own topics, and where a table's topics disagree."""
        of_the_contract = {topic.name for topic in CONTRACT} if self.is_the_service else set()
        for topic in sorted(of_the_contract & self.partitioners.keys()):
            yield (
                f"{topic} is declared with partitioner={self.partitioners[topic].name!r}, but it is a topic of the "
                f"contract, whose keys every reader and `streamapp audit` look for by {DEFAULT.name}. Leave it out, "
                f"and set partitioner={DEFAULT.name} at its senders."
            )
        yield from Placements(self).problems()

    def discover(self, *extra_modules: str, **options: Any) -> None:
        """Faust's; the modules are those of this app, and one that is missing or raises is a `ConfigurationError`."""
        root = service_root(self.settings.service)
        directory = searched_for(is_the_service=self.is_the_service, origin=self.conf.origin, root=root)
        with contextlib.nullcontext() if directory is None else searched_first(directory):
            for name in (*self._discovery_modules(), *extra_modules):
                import_discovered(name, is_the_service=self.is_the_service, root=root)
            super().discover(*extra_modules, **options)

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        """An agent raised inside an event, which becomes a dead letter."""
        unit = current_unit()
        assert self.engine is not None and unit is not None
        self.engine.failed(unit, exc, agent.name)

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

    def crontab(self, cron_format: str, *, timezone: Any = None, on_leader: bool = False, traced: bool = True) -> Any:
        """Faust's `crontab`; each run is a unit, as a timer's. By the clock of the worker's environment.

        At the begin and end of summer time it does what cron does: docs/timers.md.
        """
        if problem := crontab.problem(cron_format, timezone):
            self.refuse(problem)

        def declare(fun: Any) -> Any:
            run = self._as_unit(fun)

            @wraps(fun)
            async def cron_starter(*args: Any) -> None:
                due, zone = 0.0, self.conf.timezone if timezone is None else timezone
                while not self.should_stop:
                    now = self._clock.now()
                    try:
                        due = crontab.next_run(cron_format, max(now, due), zone)
                    except ValueError:  # one with a year, which is over
                        self.logger.info("the crontab %r was due for the last time", cron_format)
                        return
                    await self.sleep(due - now)
                    if not self.should_stop and (not on_leader or self.is_leader()):
                        with self.trace(fun.__qualname__, trace_enabled=traced):
                            await run(*args)

            return self.task(cron_starter, traced=False)

        return declare

    def itertimer(self, interval: Any, **options: Any) -> Any:
        """mode's, by the clock of the event loop: with another one it would correct a drift that there is not."""
        return super().itertimer(interval, **{"clock": asyncio.get_running_loop().time, **options})

    @property
    def _clock(self) -> Clock:
        return SYSTEM_CLOCK if self.environment is None else self.environment.clock

    def is_leader(self) -> bool:
        """Whether `on_leader` timers run here: at the worker that owns partition 0 of the first topic by name."""
        owned = self.engine.owners if self.engine is not None else {}
        return Partition(min((name for topic in self.topics for name in topic.topics), default=""), 0) in owned

    async def commit(self, topics: Any = None) -> bool:
        """Commit all that has finished. In an event it would wait for itself: `event.request_commit()` there."""
        if current_unit() is not None:
            raise UnitMisuse(
                "Awaiting a commit inside an event would wait for ever: the commit waits until the event has finished. "
                "Use `event.request_commit()`, which commits as soon as it has."
            )
        return self.engine is not None and await self.engine.commit()

    # --- tables that are refused: the object only lets the module be read to its end

    def GlobalTable(self, name: str, **options: Any) -> Any:  # noqa: N802 - Faust's name
        return self._refused_table(name, "GlobalTable", _WHERE_ROWS_ARE, options)

    def SetTable(self, name: str, **options: Any) -> Any:  # noqa: N802
        return self._refused_table(name, "SetTable", "keep a Table whose value is a list, and set it again", options)

    def SetGlobalTable(self, name: str, **options: Any) -> Any:  # noqa: N802
        return self._refused_table(name, "SetGlobalTable", _WHERE_ROWS_ARE, options)

    # --- pages that would show what is not committed

    def worker_init_post_autodiscover(self) -> None:
        """Faust's, without its web server."""
        self.on_worker_init.send()

    @property
    def web_server_url(self) -> Any:
        """For the banner of `faust worker`."""
        return "none; `streamapp worker` has one"

    def page(self, path: str, **_: Any) -> Any:
        """Refused."""
        self.refuse(f"The page {path} is not served: Faust's pages show what is not committed. {_VIEWS_INSTEAD}")
        return lambda view: view

    def table_route(self, table: Any, **_: Any) -> Any:
        """Refused."""
        self.refuse(f"table_route of {table.name} would show what is not committed. {_VIEWS_INSTEAD}")
        return lambda view: view

    def _refused_table(self, name: str, kind: str, instead: str, options: dict[str, Any]) -> Any:
        self.refuse(f"{kind} {name} is not possible exactly once. Instead: {instead}.")
        window = options.get("window")
        return self.Table(name, default=options.get("default"), window=window)

    def _as_unit(self, fun: Any) -> Any:
        @wraps(fun)
        async def run(*args: Any) -> Any:
            engine = self.engine
            if engine is None:
                return await fun(*args)
            if not engine.timers.begin():
                return None
            unit, worker = Unit(None, []), asyncio.current_task()
            set_current(unit)
            try:
                result = await fun(*args)
                await engine.timers.finish(unit)
            except BaseException:
                unit.drop()
                raise
            finally:
                clear_current(worker)
                engine.timers.end()
            return result

        return run
