"""Ports on loopback: which are free, and who has one that is not."""

from __future__ import annotations

import socket
from collections.abc import Collection

from streamapp.errors import ConfigurationError

HOST = "127.0.0.1"

#: How far above the wanted port a free one is looked for before the system is asked for any.
_NEAR = 100


def is_free(port: int) -> bool:
    """Whether a server can listen on this port of loopback now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that linger after their server ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def any_free(taken: Collection[int] = ()) -> int:
    """A port that the system has to give, none of `taken`."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def near(wanted: int, taken: Collection[int] = ()) -> int:
    """The wanted port if it is free, else the next free one above it, else any."""
    for port in range(wanted, min(wanted + _NEAR, 65536)):
        if port not in taken and is_free(port):
            return port
    return any_free(taken)


def choose(wanted: int | None, usual: int, option: str, taken: Collection[int] = ()) -> int:
    """A port by what was asked for: None looks from the usual one on, 0 takes any, a number must be free."""
    if wanted is None:
        return near(usual, taken)
    return require(wanted, option) if wanted else any_free(taken)


def require(port: int, option: str) -> int:
    """This very port. Raises `ConfigurationError`, naming who has it and the option to change."""
    if not 0 < port < 65536:
        raise ConfigurationError(f"{option} {port}: a port is a number from 1 to 65535.")
    if not is_free(port):
        raise ConfigurationError(
            f"{option} {port}: {holder(port)} listens on port {port} already. Nothing was started."
            f"\nEnd it, name another port, or leave {option} out: then the next free one is taken and printed."
        )
    return port


def holder(port: int) -> str:
    """Who listens on the port, as far as the system tells us."""
    import psutil  # type: ignore[import-untyped]  # of the extra `embedded`

    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass  # another user's process is not ours to see
    return "another program"
