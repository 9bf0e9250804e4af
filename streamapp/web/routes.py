"""Paths to answers. Only reads: no path and no method changes anything."""

from __future__ import annotations

from importlib import resources
from typing import Any
from urllib.parse import quote

from aiohttp import web

from streamapp.metrics import CONTENT_TYPE, exposition
from streamapp.queries.table_view import Missing
from streamapp.queries.views import NotReady
from streamapp.web import answer, figures, health, pages
from streamapp.web.asked import BadRequest, RowRequest, asked, wants_html
from streamapp.web.guard import is_allowed, is_this_machine
from streamapp.web.tables import PEER, NotFound, Tables

#: Seconds after which it is worth asking again.
_RETRY_AFTER_S = 1
_CHALLENGE = 'Basic realm="streamapp", charset="UTF-8"'


class Routes:
    """Answers the requests of one worker's server."""

    def __init__(self, app: Any, tables: Tables, token: str | None) -> None:
        self._app = app
        self._tables = tables
        self._token = token
        self._style = resources.files("streamapp.web").joinpath("style.css").read_text()

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """The answer to a request; what cannot be answered becomes a sentence with a status."""
        try:
            return await self._route(request)
        except BadRequest as exc:
            return self._problem(request, 400, "Not understood", str(exc))
        except Missing as exc:
            return self._problem(request, 400, "Not understood", str(exc))
        except NotFound as exc:
            return self._problem(request, 404, "Not found", f"There is no table {str(exc)!r}.")
        except NotReady as exc:
            return self.not_ready(request, str(exc))

    def not_ready(self, request: web.BaseRequest, why: str) -> web.Response:
        """Nothing wrong is shown instead of what cannot be shown now."""
        return self._problem(request, 503, "Not ready, retry", why, {"Retry-After": str(_RETRY_AFTER_S)})

    async def _route(self, request: web.BaseRequest) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            return self._problem(
                request, 405, "Only reads", "Use GET: nothing is changed here.", {"Allow": "GET, HEAD"}
            )
        if self._token is None and not is_this_machine(request.headers.get("Host")):
            return self._problem(request, 421, "Another host", "Without a token only localhost is answered for.")
        wanted = asked(request.raw_path)
        open_to_all = self._open_to_all(wanted.parts)
        if open_to_all is not None:
            return open_to_all
        if not is_allowed(self._token, request.headers.get("Authorization")):
            challenge = {"WWW-Authenticate": _CHALLENGE}
            return self._problem(request, 401, "Who are you?", "Show STREAMAPP_WEB_TOKEN as a bearer token.", challenge)
        peer = request.headers.get(PEER)
        if peer is not None and peer != self._app.settings.id:
            return self._problem(request, 421, "Another app", "This worker is of another app.")
        return await self._closed(request, wanted, here=peer is not None)

    def _open_to_all(self, parts: tuple[bytes, ...]) -> web.Response | None:
        """What probes and browsers get without a token: nothing of it is data."""
        match parts:
            case (b"livez",):
                return _health(health.unlive(self._app))
            case (b"readyz" | b"healthz",):
                return _health(health.unready(self._app), health.letters(self._app))
            case (b"style.css",):
                return answer.typed(self._style, "text/css; charset=utf-8")
        return None

    async def _closed(self, request: web.BaseRequest, wanted: RowRequest, *, here: bool) -> web.Response:
        match wanted.parts:
            case (b"metrics",):
                return answer.typed(exposition(figures.families(self._app)), CONTENT_TYPE)
            case (b"ops", b"errors"):
                lines = (f"{name} {count}\n" for name, count in figures.errors(self._app).items())
                return answer.text("".join(lines))
            case () | (b"tables",):
                return self._names(request)
            case (b"tables", table):
                return await self._rows(request, table, wanted, here)
            case (b"tables", table, *key):
                return await self._row(request, table, b"/".join(key), wanted, here)
        return self._problem(request, 404, "Not found", "There is no such page.")

    # --- tables

    def _names(self, request: web.BaseRequest) -> web.Response:
        names = self._tables.names()
        if _html(request):
            return answer.html(pages.tables(self._app.settings.id, names))
        found = [
            {"table": name, "help": about, "url": f"/tables/{quote(name, safe='')}"} for name, about in names.items()
        ]
        return answer.json({"tables": found})

    async def _rows(self, request: web.BaseRequest, raw_table: bytes, wanted: RowRequest, here: bool) -> web.Response:
        table = _table(raw_table)
        find = wanted.query.get("find")
        if find is not None:  # the form of the page: a row has an address of its own
            row = f"/tables/{quote(table, safe='')}/{quote(find, safe='')}"
            if wanted.key:
                row += f"?key={quote(wanted.key, safe='')}"
            return answer.text(row, 303, {"Location": row})
        found = await self._tables.page(table, wanted, here=here)
        if _html(request):
            return answer.html(pages.rows(self._app.settings.id, found, self._tables.names().get(table, "")))
        return answer.json(found)

    async def _row(
        self, request: web.BaseRequest, raw_table: bytes, key: bytes, wanted: RowRequest, here: bool
    ) -> web.Response:
        table = _table(raw_table)
        exists, found = await self._tables.row(table, key, wanted, here=here)
        if _html(request):
            if not exists:
                where = f"{found['key']!r} is not in {table}. If its events have another key, add ?key=."
                return self._problem(request, 404, "No such row", where)
            return answer.html(pages.row(self._app.settings.id, found))
        if not exists:
            found = {"error": "no such row; if its events have another key, add ?key=", **found}
        return answer.json(found, 200 if exists else 404)

    def _problem(
        self, request: web.BaseRequest, status: int, title: str, text: str, headers: dict[str, str] | None = None
    ) -> web.Response:
        if _html(request):
            return answer.html(pages.problem(self._app.settings.id, title, text), status, headers)
        return answer.json({"error": title.lower(), "reason": text}, status, headers)


def _health(why_not: str | None, more: str = "") -> web.Response:
    if why_not is None:
        return answer.text(f"ok\n{more}")
    return answer.text(f"{why_not}\n", 503, {"Retry-After": str(_RETRY_AFTER_S)})


def _html(request: web.BaseRequest) -> bool:
    return wants_html(request.headers.get("Accept", ""))


def _table(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise NotFound(raw.decode("utf-8", "backslashreplace")) from None
