"""The socket of a worker's views: where it listens, what it bounds, and how it ends.

It runs in the worker's event loop, so that it reads what the worker is at this instant; every request is short, and
their number, size and time are bounded.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from streamapp.errors import ConfigurationError
from streamapp.settings import PREFIX, Settings, is_loopback
from streamapp.web.routes import Routes
from streamapp.web.tables import Tables

logger = logging.getLogger(__name__)

#: Ports tried when the one of the settings is taken.
_PORTS = 100
#: Connections at once; one that says nothing, or not all, is closed after this many seconds.
_CONNECTIONS_MAX, _SILENCE_S = 100, 10.0
#: Seconds an answer may take, waiting included.
_REQUEST_S = 5.0
#: A key of 10 kB, each byte of it percent-encoded, fits in a request's first line.
_LINE_BYTES_MAX, _HEADER_BYTES_MAX, _HEADERS_MAX = 64 << 10, 8 << 10, 64
#: Seconds that answers under way have to finish in when the worker ends.
_SHUTDOWN_S = 1.0


@asynccontextmanager
async def serving(app: Any, port: int | None = None) -> AsyncIterator[str]:
    """Serve the views of `app` while inside; yields their address, which the app tells its group when it joins.

    `port`: instead of WEB_PORT.

    Raises `ConfigurationError` when the address cannot be taken, or would be open to everybody.
    """
    settings: Settings = app.settings
    bound = bind(settings, settings.web_port if port is None else port)
    address = address_of(bound, settings)
    token = None if settings.web_token is None else settings.web_token.get_secret_value()
    tables = Tables(app, address, token)
    routes = Routes(app, tables, token)
    server = _Server(
        lambda request: _in_time(routes, request),
        keepalive_timeout=_SILENCE_S,
        max_line_size=_LINE_BYTES_MAX,
        max_field_size=_HEADER_BYTES_MAX,
        max_headers=_HEADERS_MAX,
        lingering_time=0,
        auto_decompress=False,
        access_log=None,
        logger=_request_logger(),
    )
    listening = await asyncio.get_running_loop().create_server(server, sock=bound, backlog=_CONNECTIONS_MAX)
    app.views_address = address
    logger.info("views at %s", address)
    try:
        yield address
    finally:
        app.views_address = None
        listening.close()
        server.pre_shutdown()
        await server.shutdown(_SHUTDOWN_S)
        await tables.close()


def bind(settings: Settings, first: int) -> socket.socket:
    """A socket on this port of WEB_HOST, or on the next free one."""
    host = settings.web_host
    if not is_loopback(host) and settings.web_token is None:  # the settings refuse it too
        raise ConfigurationError(f"{PREFIX}WEB_HOST={host} is reachable from outside. Set {PREFIX}WEB_TOKEN.")
    try:
        family, kind, number, _, found = socket.getaddrinfo(host, first, type=socket.SOCK_STREAM)[0]
    except OSError as exc:
        raise ConfigurationError(f"{PREFIX}WEB_HOST={host} cannot be found: {exc.strerror}.") from exc
    for port in range(first, min(first + _PORTS, 65536)):
        made = socket.socket(family, kind, number)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((found[0], port, *found[2:]))
            made.listen(_CONNECTIONS_MAX)
        except OSError as exc:
            made.close()
            if exc.errno != errno.EADDRINUSE:
                raise ConfigurationError(f"{PREFIX}WEB_HOST={host} cannot be listened at: {exc.strerror}.") from exc
        else:
            made.setblocking(False)
            return made
    raise ConfigurationError(f"The {_PORTS} ports from {first} on are taken. Name another one: {PREFIX}WEB_PORT.")


def address_of(bound: socket.socket, settings: Settings) -> str:
    """The URL under which the other workers reach this one.

    A socket that listens everywhere has no address of its own: it is the one this machine reaches Kafka from.
    """
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - only compared
        host = _address_towards(settings.broker.partition(",")[0]) or socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _address_towards(broker: str) -> str | None:
    host, _, port = broker.rpartition(":")
    try:
        family, _, _, _, to = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(to)  # sends nothing
            address: str = probe.getsockname()[0]
            return address
    except OSError:
        return None


def _request_logger() -> logging.Logger:
    """Says what went wrong here, and nothing about what others sent: that would fill the log with their bytes."""
    made = logging.getLogger(f"{__name__}.requests")
    if not made.filters:
        made.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))
    return made


async def _in_time(routes: Routes, request: web.BaseRequest) -> web.StreamResponse:
    try:
        async with asyncio.timeout(_REQUEST_S):
            return await routes.answer(request)
    except TimeoutError:
        return routes.not_ready(request, f"no answer within {_REQUEST_S:g} s")


class _Server(web.Server):
    """aiohttp's server with a bound on its connections; those above it are closed at once."""

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > _CONNECTIONS_MAX:
            transport.abort()
