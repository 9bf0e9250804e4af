"""`streamapp check`: whether anything here would break the guarantee."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from streamapp.cli import output
from streamapp.cli.worker import loaded_app


def register(app: typer.Typer) -> None:
    """Add `check`."""

    @app.command("check")
    def command(
        target: Annotated[
            str | None,
            typer.Option("--app", "-A", metavar="MODULE[:NAME]", help="An app of your own; default: this service."),
        ] = None,
        as_json: output.JsonOption = False,
    ) -> None:
        """Look for what would break the guarantee: brokers, topics, time-outs, state directory, twins, and the app.

        Of the app: what a worker would refuse at its start, and every topic that it reads, with its dead letters, late
        records and changelogs. Changes nothing. Exit code 0: nothing found; 1: something was, each with what to do;
        2: settings are wrong.

        Example: `STREAMAPP_INSTANCE=worker-1 streamapp check`, and `streamapp check --app shop`
        """
        # Faust is slow to import, and the other commands do not need it.
        from streamapp.ops.check import check

        found = loaded_app(target)
        findings = asyncio.run(check(found.settings, app=found))
        if as_json:
            output.emit_json([{"check": f.check, "passed": f.passed, "problems": f.problems} for f in findings])
        else:
            for finding in findings:
                output.out.print("[green]ok[/]     " if finding.passed else "[bold red]problem[/]", end=" ")
                output.out.print(finding.check, markup=False, emoji=False)
                for problem in finding.problems:
                    output.out.print("         " + problem, markup=False, emoji=False)
        raise typer.Exit(output.DONE if all(finding.passed for finding in findings) else output.FAILED)
