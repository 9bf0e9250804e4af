"""`streamapp worker`: one worker of the service, or of an app of the user's own."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from streamapp import log
from streamapp.cli import output
from streamapp.errors import ConfigurationError

#: Exit codes: 0 drained; 1 an error ended it, or it did not drain in time; 2 settings or topics are wrong.

#: Python's collector looks at young objects after so many, and at all after 20 x 50 such looks. Its own 700 x 10 x 10
#: cost an eighth of an event, because what waits to be processed lives long enough to be looked at each time.
_COLLECT = (50_000, 20, 50)


def register(app: typer.Typer) -> None:
    """Add `worker`."""

    @app.command()
    def worker(
        target: Annotated[
            str | None,
            typer.Option("--app", "-A", metavar="MODULE[:NAME]", help="An app of your own; default: this service."),
        ] = None,
        instance: Annotated[
            str | None, typer.Option(help="Stable name of this worker; STREAMAPP_INSTANCE is the same.")
        ] = None,
        web_port: Annotated[
            int | None, typer.Option(min=0, max=65535, help="Port of the views; STREAMAPP_WEB_PORT is the same.")
        ] = None,
        without_web: Annotated[
            bool, typer.Option("--without-web", help="No views: no health, no metrics, no tables over HTTP.")
        ] = False,
        leave: Annotated[
            bool,
            typer.Option(
                "--leave", help="With an instance: give its seat up at the end; its partitions move on at once."
            ),
        ] = False,
        wait: Annotated[
            float, typer.Option(min=0, metavar="SECONDS", help="Wait so long for a broker to answer.")
        ] = 60.0,
        log_level: Annotated[str, typer.Option("--log-level", "-l", help="debug, info, warning or error.")] = "info",
    ) -> None:
        """Run one worker until SIGTERM or Ctrl-C, which drain it: running events finish and are committed.

        It ends within 20 s of the signal; what could not be committed by then runs again elsewhere, and the exit code
        is 1. A worker with an instance keeps its seat and its partitions for the session time-out, so that a restart
        disturbs nobody; `--leave` is for one that will not be back. The views of a worker (health, metrics, tables) are
        on 127.0.0.1, at port 6066 or the next free one.

        Example: `streamapp worker --instance worker-1`, and `streamapp worker --instance worker-2 --leave`
        """
        number = logging.getLevelName(log_level.upper())
        if not isinstance(number, int):
            raise typer.BadParameter(
                f"{log_level!r} is not one of debug, info, warning, error", param_hint="--log-level"
            )
        raise typer.Exit(_work(target, instance, web_port, without_web, leave, wait, number))


def _work(
    target: str | None,
    instance: str | None,
    web_port: int | None,
    without_web: bool,
    leave: bool,
    wait: float,
    level: int,
) -> int:
    # Faust is slow to import, and the other commands do not need it.
    from streamapp import settings
    from streamapp.app import App, use
    from streamapp.driver.process import run, work

    loaded = settings.load(instance=instance)
    log.configure(loaded.log_format, level)
    app = use(App(settings=loaded)) if target is None else _imported(target, instance)
    app.broker_patience_s, app.gives_seat_back = wait, leave
    gc.freeze()  # what was imported stays
    gc.set_threshold(*_COLLECT)
    output.note(f"worker of {app.settings.id} on {app.settings.broker}")
    return run(work(app) if without_web else _serve_and_work(app, web_port))


async def _serve_and_work(app: Any, port: int | None) -> int:
    from streamapp.driver.process import work
    from streamapp.web.server import serving

    async with serving(app, port):
        return await work(app)


def loaded_app(target: str | None) -> Any:
    """The app with all its agents, as a worker has it, without a worker: `target`, or this service's."""
    from streamapp import settings
    from streamapp.app import App, use

    app = use(App(settings=settings.load())) if target is None else _imported(target, None)
    app.finalize()
    if app.conf.autodiscover:
        app.discover()
    return app


def _imported(target: str, instance: str | None) -> Any:
    from faust.cli.base import prepare_app

    from streamapp.driver.app import EngineApp
    from streamapp.driver.discovery import find_app, put_first

    if instance is not None:
        raise ConfigurationError("--instance is for this service; an app of your own takes STREAMAPP_INSTANCE.")
    put_first(Path.cwd())
    found, module = find_app(target)
    if not isinstance(found, EngineApp):
        raise ConfigurationError(
            f"{target} is no streamapp.App but a {type(found).__name__}: its events would not count once."
        )
    return prepare_app(found, module)
