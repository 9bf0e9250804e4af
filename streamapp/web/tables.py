"""A row, or a page of rows, of any worker's tables: read here, or asked of the worker that owns the partition.

A worker that is asked by another one answers for its own partitions alone and passes nothing on, so questions end. An
answer comes from an owner, or there is none: `NotReady`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from streamapp.clock import format_rfc3339
from streamapp.queries.table_view import ShownRow
from streamapp.queries.views import NotReady, Version, Views, views_of
from streamapp.web.asked import BadRequest, RowRequest, cursor, place

#: Says that another worker of this app asks.
PEER = "X-Streamapp-Peer"
#: Questions to other workers at once; more wait. What this worker owns is answered without any.
_QUESTIONS_MAX = 16
#: How long an owner may take, in seconds, and the largest answer of it that is read.
_PEER_TIMEOUT_S = 2.0
_PEER_BYTES_MAX = 16 << 20
#: Values of a page, as they are stored, at most.
_PAGE_BYTES_MAX = 1 << 20
#: Partitions looked at for one page.
_PARTITIONS_A_PAGE = 64


class NotFound(Exception):
    """There is no such table."""


class Tables:
    """Rows of tables over HTTP, from this worker or from their owner.

    `address` is where this worker answers; `token` what the others ask for.
    """

    def __init__(self, app: Any, address: str, token: str | None) -> None:
        self._app = app
        self._address = address
        self._headers = {PEER: app.settings.id, "Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._peers: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(_QUESTIONS_MAX)

    async def close(self) -> None:
        """Close the connections to the other workers."""
        if self._peers is not None:
            await self._peers.close()

    def names(self) -> dict[str, str]:
        """Table name -> what it is about."""
        return self._views().tables

    async def row(self, table: str, key: bytes, asked: RowRequest, *, here: bool) -> tuple[bool, dict[str, Any]]:
        """Whether there is such a row, and the answer. `here`: only if this worker owns it."""
        views = self._views()
        count = await self._count(views, table)
        numbers = self._partitions_of(views, table, key, asked, count)
        waiting: NotReady | None = None
        found, answer = False, dict[str, Any]()
        for number in numbers:
            try:
                found, answer = await self._row_of(views, table, number, key, asked, here)
            except NotReady as exc:
                waiting = exc
            if found:
                return found, answer
        if waiting is not None:
            raise waiting
        return found, answer

    async def page(self, table: str, asked: RowRequest, *, here: bool) -> dict[str, Any]:
        """Rows behind `?after=`, partition after partition, and where the next page begins."""
        views = self._views()
        count = await self._count(views, table)
        only, start = asked.partition, asked.after
        number, after = start if start is not None else (only or 0, None)
        last = count if only is None else only + 1
        if number >= count or last > count or (only is not None and number != only):
            raise BadRequest(f"{table} has the partitions 0 to {count - 1}")
        last = min(last, number + _PARTITIONS_A_PAGE)
        rows, versions = list[Any](), list[Any]()
        while number < last and len(rows) < asked.limit:
            part = await self._page_of(views, table, number, after, asked.limit - len(rows), here)
            rows += part["rows"]
            versions += part["partitions"]
            if part["after"] is not None:
                number, after = place(part["after"].encode())
                break
            number, after = number + 1, None
        more = number < (count if only is None else last)
        behind = cursor(number, after) if more else None
        return {
            "table": table,
            "rows": rows,
            "after": behind,
            "next": None if behind is None else _next(table, behind, asked),
            "partitions": versions,
        }

    # --- one partition

    async def _row_of(
        self, views: Views, table: str, number: int, key: bytes, asked: RowRequest, here: bool
    ) -> tuple[bool, dict[str, Any]]:
        if here or views.owns(table, number):
            value, version = views.find(table, number, key, asked.key, is_stored=asked.is_stored)
            return value is not None, self._shown(table, key, value, version)
        query: dict[str, str | bytes] = {"partition": str(number)}
        if asked.key is not None:
            query["key"] = asked.key
        if asked.is_stored:
            query["stored"] = "1"
        return await self._ask(views, table, number, f"/{quote(key, safe='')}?{urlencode(query)}")

    async def _page_of(
        self, views: Views, table: str, number: int, after: bytes | None, limit: int, here: bool
    ) -> dict[str, Any]:
        if not here and not views.owns(table, number):
            behind = {"after": cursor(number, after)} if after is not None else {}
            query = urlencode({"partition": number, "limit": limit, **behind})
            _, answer = await self._ask(views, table, number, f"?{query}")
            return answer
        found, last, version = views.page(table, number, after, limit, _PAGE_BYTES_MAX)
        return {
            "rows": [{"key": row.key, "value": row.value, "url": _url(table, number, row)} for row in found],
            "after": None if last is None else cursor(number, last),
            "partitions": [self._version(version)],
        }

    async def _ask(self, views: Views, table: str, number: int, rest: str) -> tuple[bool, dict[str, Any]]:
        """Ask the owner; if it is none any more, the next one, once."""
        for last in (False, True):
            owner = await views.owner(table, number)
            if owner == self._address:
                raise NotReady(f"{table}[{number}] is not restored yet, or its owner listens on its own machine only")
            try:
                return await self._get(f"{owner}/tables/{quote(table, safe='')}{rest}")
            except NotReady:
                views.forget_owners()
                if last:
                    raise
        raise AssertionError("unreachable")

    async def _get(self, url: str) -> tuple[bool, dict[str, Any]]:
        if self._peers is None:
            # Only what the group's members say is asked: no proxy, no redirect, no cookie of anybody else.
            self._peers = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_PEER_TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            async with (
                self._slots,
                self._peers.get(_encoded(url), headers=self._headers, allow_redirects=False) as response,
            ):
                body = await response.content.read(_PEER_BYTES_MAX)
                while not response.content.at_eof() and len(body) < _PEER_BYTES_MAX:
                    body += await response.content.read(_PEER_BYTES_MAX - len(body))
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise NotReady(f"the owner does not answer: {type(exc).__name__}") from exc
        return _answer_of(response.status, body)

    # --- shapes

    def _views(self) -> Views:
        views = views_of(self._app)
        if views is None:
            raise NotReady("the worker is starting or has stopped")
        return views

    async def _count(self, views: Views, table: str) -> int:
        try:
            return await views.partition_count(table)
        except KeyError:
            raise NotFound(table) from None

    def _partitions_of(self, views: Views, table: str, key: bytes, asked: RowRequest, count: int) -> list[int]:
        """Where the row can be."""
        if asked.partition is not None:
            if asked.partition >= count:
                raise BadRequest(f"{table} has the partitions 0 to {count - 1}")
            return [asked.partition]
        event_key = asked.key if asked.key is not None else views.view(table).event_key(key)
        return list(range(count)) if event_key is None else views.partitions_of(table, event_key, count)

    def _shown(self, table: str, key: bytes, value: Any, version: Version) -> dict[str, Any]:
        return {
            "table": table,
            "key": key.decode("utf-8", "backslashreplace"),
            "value": value,
            **self._version(version),
        }

    def _version(self, version: Version) -> dict[str, Any]:
        return {
            "partition": version.partition,
            "committed_offset": version.committed_offset,
            "changelog": version.changelog,
            "inputs": dict(version.inputs),
            "as_of": format_rfc3339(version.as_of),
            "owner": self._address,
            "instance": self._app.settings.instance,
        }


def _encoded(url: str) -> URL:
    return URL(url, encoded=True)  # keys are encoded already, and must not be normalised


def _url(table: str, number: int, row: ShownRow) -> str:
    stored = "&stored=1" if row.is_stored else ""
    return f"/tables/{quote(table, safe='')}/{row.path}?partition={number}{stored}"


def _next(table: str, behind: str, asked: RowRequest) -> str:
    query: Mapping[str, Any] = {
        "after": behind,
        "limit": asked.limit,
        **({"partition": asked.partition} if asked.partition is not None else {}),
    }
    return f"/tables/{quote(table, safe='')}?{urlencode(query)}"


def _answer_of(status: int, body: bytes) -> tuple[bool, dict[str, Any]]:
    """Found or not, and the answer; everything else is no answer."""
    if status not in (200, 404) or len(body) >= _PEER_BYTES_MAX:
        raise NotReady("the owner cannot answer now")
    try:
        answer = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as exc:
        raise NotReady("the owner's answer cannot be read") from exc
    if "partition" not in answer and "partitions" not in answer:
        raise NotReady("who answered is no owner")
    return status == 200, answer
