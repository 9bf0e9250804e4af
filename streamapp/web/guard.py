"""Who is let in. Pure.

Without a token only this machine is served, and only under a name of this machine: a page of somebody else's that has
its own name point here (DNS rebinding) is not. With a token everybody must show it, also from this machine, because
what comes through a proxy comes from this machine.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode

from streamapp.settings import is_loopback


def is_allowed(token: str | None, authorization: str | None) -> bool:
    """Whether the header shows the token: `Bearer <token>`, or `Basic` with the token as password, for browsers.

    Takes the same time for every wrong token.
    """
    if token is None:
        return True
    scheme, _, credentials = (authorization or "").partition(" ")
    shown = credentials.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            shown = b64decode(shown, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(shown, token.encode())


def is_this_machine(host: str | None) -> bool:
    """Whether a request's `Host` names this machine: `localhost` or a loopback address, with any port."""
    name = (host or "").strip()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    return is_loopback(name.lower())
