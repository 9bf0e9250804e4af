"""`streamapp worker`: one worker of the service."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from streamapp import log
from streamapp.cli import output


def register(app: typer.Typer) -> None:
    """Add `worker`."""

    @app.command()
    def worker(
        instance: Annotated[
            str | None, typer.Option(help="Stable name of this worker; STREAMAPP_INSTANCE is the same.")
        ] = None,
        log_level: Annotated[str, typer.Option("--log-level", "-l", help="debug, info, warning or error.")] = "info",
    ) -> None:
        """Run one worker until SIGTERM or Ctrl-C, which drain it: running events finish and are committed.

        Example: `streamapp worker --instance worker-1`
        """
        # Faust is slow to import, and the other commands do not need it.
        import faust

        from streamapp import settings
        from streamapp.app import App, use

        number = logging.getLevelName(log_level.upper())
        if not isinstance(number, int):
            raise typer.BadParameter(
                f"{log_level!r} is not one of debug, info, warning, error", param_hint="--log-level"
            )
        loaded = settings.load(instance=instance)
        log.configure(loaded.log_format, number)
        running = use(App(settings=loaded))
        running.finalize()
        output.note(f"worker of {loaded.id} on {loaded.broker}")
        faust.Worker(running, loglevel=number, override_logging=False, quiet=True).execute_from_commandline()
