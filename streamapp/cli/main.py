"""The command line `streamapp`: one module a group of commands, composed here."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from typing import Annotated

import typer

from streamapp.cli import output
from streamapp.errors import ConfigurationError, StreamAppError, Unavailable

#: Modules of `streamapp.cli` with a function `register(app)`, in the order `--help` lists their commands.
COMMANDS: tuple[str, ...] = ("demo", "embedded", "topics", "worker", "feed", "audit", "check", "positions", "schema")


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="streamapp",
        help="Streaming on Kafka for events that must count exactly once.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
        ] = False,
    ) -> None:
        pass

    for name in COMMANDS:
        importlib.import_module(f"streamapp.cli.{name}").register(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        output.out.print(metadata.version("streamapp"))
        raise typer.Exit


def main() -> None:
    """Run one command and end the process with its exit code; errors of ours are sentences, not stack traces."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of one command line."""
    try:
        build()(arguments)
    except SystemExit as exc:  # how Typer ends every command
        return exc.code if isinstance(exc.code, int) else output.DONE
    except ConfigurationError as exc:
        output.error(str(exc))
        return output.FAILED if isinstance(exc, Unavailable) else output.MISUSE
    except StreamAppError as exc:
        output.error(str(exc))
        return output.FAILED
    except Exception as exc:
        if not _is_kafkas(exc):
            raise
        output.error(
            f"Kafka refused: {exc.args[0].str()}. What was done before stands; docs/permissions.md lists rights."
        )
        return output.FAILED
    return output.DONE


def _is_kafkas(exc: Exception) -> bool:
    """Whether it is librdkafka's, which is slow to import where nothing needs it."""
    client = sys.modules.get("confluent_kafka")
    return client is not None and isinstance(exc, client.KafkaException)
