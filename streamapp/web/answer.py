"""What is sent back: bodies with the headers every answer has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

#: Nothing is loaded from elsewhere, nothing runs, nobody frames a page, and no answer is kept.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Vary": "Accept",
    "Server": "streamapp",
}


def text(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Plain text."""
    return _response(body.encode(), "text/plain; charset=utf-8", status, headers)


def html(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A page."""
    return _response(body.encode(), "text/html; charset=utf-8", status, headers)


def json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """One JSON object."""
    return _response(msgspec.json.encode(body) + b"\n", "application/json", status, headers)


def typed(body: str, content_type: str) -> web.Response:
    """Text of a type of its own."""
    return _response(body.encode(), content_type, 200, None)


def _response(body: bytes, content_type: str, status: int, headers: Mapping[str, str] | None) -> web.Response:
    every = {**_HEADERS, "Content-Type": content_type, **(headers or {})}
    return web.Response(body=body, status=status, headers=every)
