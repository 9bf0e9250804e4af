"""The server of the views on real sockets: where it listens, whom it lets in, and what it bounds. No worker needed."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

import pytest

from streamapp.app import App
from streamapp.errors import ConfigurationError
from streamapp.settings import Settings, load
from streamapp.web import server
from streamapp.web.server import address_of, bind, serving


def app(**settings: Any) -> App:
    return App(settings=Settings(**{"id": "shop", "web_port": 0, **settings}), autodiscover=False)


async def said(address: str, request: bytes) -> bytes:
    """What the server answers to these bytes, until it closes the connection."""
    host, port = address.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        writer.write(request)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


def get(path: str, *headers: str, method: str = "GET", host: str = "localhost") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_nothing_is_changed_and_heads_have_no_body() -> None:
    async with serving(app()) as address:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            answer = await said(address, get("/tables/t/k", method=method))
            assert status(answer) == 405
            assert b"Allow: GET, HEAD" in answer
        head = await said(address, get("/livez", method="HEAD"))
        assert status(head) == 200
        assert head.endswith(b"\r\n\r\n")
        assert b"aiohttp" not in head


async def test_without_a_worker_everything_says_not_ready() -> None:
    async with serving(app()) as address:
        for path in ("/", "/tables", "/tables/t", "/tables/t/k"):
            answer = await said(address, get(path))
            assert status(answer) == 503
            assert b"Retry-After: 1" in answer
        assert status(await said(address, get("/nothing"))) == 404


async def test_another_name_for_this_machine_is_refused_without_a_token() -> None:
    async with serving(app()) as address:
        assert status(await said(address, get("/tables", host="evil.example"))) == 421
        assert status(await said(address, get("/tables", host="127.0.0.1:1"))) == 503
    async with serving(app(web_token="secret")) as address:
        assert status(await said(address, get("/livez", host="pod-1"))) == 200
        for path in ("/", "/tables", "/tables/t/k", "/metrics", "/ops/errors"):
            answer = await said(address, get(path))
            assert status(answer) == 401
            assert b"WWW-Authenticate: Basic" in answer
            assert b"secret" not in answer
            assert status(await said(address, get(path, "Authorization: Bearer secret", host="pod-1"))) != 401


HOSTILE = [
    b"\x00\x01\x02\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    get("/tables/\x00"),
    get("/tables/" + "x" * 200_000),
    get("/", "X-Long: " + "y" * 100_000),
    get("/", *(f"X-{number}: 1" for number in range(1000))),
    get("http://evil.example/tables"),
    get("*", method="OPTIONS"),
    get("/tables/t/%ff%fe%00?key=%00&key=%ff&limit=1&partition=99999999999"),
    get("/tables/t?after=%00"),
    get("/tables/t?" + "&".join(f"a{n}=1" for n in range(100))),
    get("/tables", "Authorization: Basic \udcff\udcff"),
    get("/tables", "Accept: " + "text/html;q=1," * 400),
    get("/tables", "Transfer-Encoding: chunked", "Content-Length: 5"),
    get("/../../../etc/passwd"),
    get("//evil.example/tables"),
    b"POST /tables HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n",
]


@pytest.mark.parametrize("request_", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_requests_get_a_sentence_and_harm_nobody(
    request_: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "_SILENCE_S", 0.5)
    async with serving(app()) as address:
        answer = await said(address, request_)
        if answer:
            assert 400 <= status(answer) <= 505
            assert status(answer) != 500
            assert b"Traceback" not in answer
        assert status(await said(address, get("/livez"))) == 200
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


async def test_a_key_of_10_kb_fits_however_it_is_encoded() -> None:
    async with serving(app()) as address:
        for key in ("x" * 10_000, "%00" * 10_000):
            assert status(await said(address, get(f"/tables/t/{key}"))) == 503


async def test_who_says_nothing_or_not_all_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_SILENCE_S", 0.3)
    async with serving(app()) as address:
        for half in (b"", b"GET /livez HTTP/1.1\r\nHost: local"):
            assert not await said(address, half)  # it is closed; the bound is in `said`


async def test_connections_are_bounded_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_CONNECTIONS_MAX", 5)
    async with serving(app()) as address:
        port = int(address.rsplit(":", 1)[1])
        writers = []
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError, IndexError)):
            status(await said(address, get("/livez")))
        writers.pop().close()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert status(await said(address, get("/livez"))) == 200
                    break
                except (ConnectionError, IndexError):
                    await asyncio.sleep(0.02)
        for writer in writers:
            writer.close()


async def test_an_answer_takes_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_REQUEST_S", 0.2)

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("streamapp.web.routes.Routes.answer", never)
    async with serving(app()) as address:
        answer = await said(address, get("/tables"))
        assert status(answer) == 503
        assert b"0.2 s" in answer


async def test_a_taken_port_is_no_problem_and_none_is_left_open() -> None:
    with closing(bind(Settings(), 0)) as taken:
        port = taken.getsockname()[1]
        async with serving(app(web_port=port)) as address:
            assert int(address.rsplit(":", 1)[1]) > port
            assert status(await said(address, get("/livez"))) == 200
        with pytest.raises(OSError):
            await said(address, get("/livez"))


def test_an_address_that_is_open_to_all_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("0.0.0.0", "10.0.0.1", "::", "example.org"):
        monkeypatch.setenv("STREAMAPP_WEB_HOST", host)
        with pytest.raises(ConfigurationError, match="WEB_TOKEN"):
            load()
        with pytest.raises(ConfigurationError, match="WEB_TOKEN"):
            bind(Settings.model_construct(web_host=host, web_token=None), 0)


def test_an_address_that_is_not_ours_is_named() -> None:
    for host in ("203.0.113.7", "no.such.host.invalid"):
        with pytest.raises(ConfigurationError, match=host):
            bind(Settings(web_host=host, web_token="x"), 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_the_address_is_one_that_others_reach(host: str) -> None:
    settings = Settings(web_host=host, web_token="x", broker="127.0.0.1:9092")
    with closing(bind(settings, 0)) as bound:
        port = bound.getsockname()[1]
        assert address_of(bound, settings) == f"http://127.0.0.1:{port}"


def test_an_address_of_ipv6_is_in_brackets() -> None:
    try:
        bound = bind(Settings(web_host="::1"), 0)
    except ConfigurationError:
        pytest.skip("this machine has no IPv6")
    with closing(bound):
        assert address_of(bound, Settings(web_host="::1")).startswith("http://[::1]:")
