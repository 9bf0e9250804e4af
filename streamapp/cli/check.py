"""`streamapp check`: whether anything here would break the guarantee."""

from __future__ import annotations

import asyncio

import typer

from streamapp.cli import output
from streamapp.ops.check import check
from streamapp.settings import load


def register(app: typer.Typer) -> None:
    """Add `check`."""

    @app.command("check")
    def command(as_json: output.JsonOption = False) -> None:
        """Look for what would break the guarantee: brokers, topics, time-outs, state directory, twins.

        Changes nothing. Exit code 0: nothing found; 1: something was, each with what to do; 2: settings are wrong.

        Example: `STREAMAPP_INSTANCE=worker-1 streamapp check`
        """
        findings = asyncio.run(check(load()))
        if as_json:
            output.emit_json([{"check": f.check, "passed": f.passed, "problems": f.problems} for f in findings])
        else:
            for finding in findings:
                output.out.print("[green]ok[/]     " if finding.passed else "[bold red]problem[/]", end=" ")
                output.out.print(finding.check)
                for problem in finding.problems:
                    output.out.print("         " + problem, markup=False, emoji=False)
        raise typer.Exit(output.DONE if all(finding.passed for finding in findings) else output.FAILED)
