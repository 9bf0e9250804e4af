"""What a request asks for, and who is let in: pure, with what nobody sends by accident."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.web.asked import ROWS_MAX, ROWS_USUAL, BadRequest, RowRequest, asked, cursor, wants_html
from streamapp.web.guard import is_allowed, is_this_machine


@given(st.binary(min_size=1), st.binary())
def test_a_key_of_any_bytes_comes_through_a_path_and_a_query(key: bytes, event_key: bytes) -> None:
    target = f"/tables/{quote('t', safe='')}/{quote(key, safe='')}?{urlencode({'key': event_key})}"
    found = asked(target)
    assert found.parts == (b"tables", b"t", key)
    assert found.key == event_key


@given(st.integers(0, 9999), st.binary())
def test_a_cursor_is_read_as_it_was_written(partition: int, after: bytes) -> None:
    query = urlencode({"after": cursor(partition, after)})
    assert asked(f"/tables/t?{query}").after == (partition, after or None)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_whatever_is_asked_is_understood_or_refused(target: str) -> None:
    for line in (
        target,
        f"/{target}",
        f"/tables/t?{target}",
        f"/tables/t?after={target}&limit={target}&partition={target}",
    ):
        try:
            found = asked(line)
            _ = found.after, found.limit, found.partition, found.key
        except BadRequest:
            continue


def test_paths_are_not_normalised() -> None:
    assert asked("/tables/t/../x").parts == (b"tables", b"t", b"..", b"x")
    assert asked("/tables/t/%2e%2e%2fx").parts == (b"tables", b"t", b"../x")
    assert asked("/tables/").parts == (b"tables",)
    assert asked("/").parts == ()
    for target in ("http://elsewhere/tables", "*", ""):
        with pytest.raises(BadRequest):
            asked(target)
    with pytest.raises(BadRequest):
        asked("/tables?" + "&".join(f"a{number}=1" for number in range(50)))


def test_the_limit_has_a_limit() -> None:
    assert RowRequest((), {}).limit == ROWS_USUAL
    assert RowRequest((), {"limit": str(ROWS_MAX).encode()}).limit == ROWS_MAX
    for text in (b"0", b"-1", b"201", b"1e3", b"", b"9" * 5000, "٣".encode()):
        with pytest.raises(BadRequest):
            _ = RowRequest((), {"limit": text}).limit


@pytest.mark.parametrize(
    "accept, html",
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html;q=0.5, application/json", False),
        ("application/json;q=0.5, text/html", True),
        ("text/html;q=nonsense", False),
        (",;,=;q=" * 5000, False),
    ],
)
def test_pages_are_for_those_who_ask_for_them(accept: str, html: bool) -> None:
    assert wants_html(accept) is html


def basic(password: str) -> str:
    return "Basic " + b64encode(f"me:{password}".encode()).decode()


@pytest.mark.parametrize(
    "header", ["Bearer s3cret", "bearer s3cret", basic("s3cret"), basic("s3cret").replace("Basic", "basic")]
)
def test_the_token_is_let_in(header: str) -> None:
    assert is_allowed("s3cret", header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer s3cre",
        "Bearer s3crets",
        "Bearer S3CRET",
        "s3cret",
        "Token s3cret",
        "Basic",
        "Basic !!!",
        "Basic \udcff",
        basic("other"),
        basic(""),
        "Bearer \udcff\udcfe",
        "Bearer " + "x" * 8000,
    ],
)
def test_nothing_else_is(header: str | None) -> None:
    assert not is_allowed("s3cret", header)
    assert is_allowed(None, header)  # where there is no token, nobody must show one


@pytest.mark.parametrize(
    "host, ours",
    [
        ("localhost", True),
        ("LOCALHOST:6066", True),
        ("127.0.0.1:6066", True),
        ("127.1.2.3", True),
        ("[::1]:6066", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:6066", False),
        ("10.0.0.1", False),
        ("", False),
        (None, False),
        ("[", False),
        ("::::", False),
    ],
)
def test_only_names_of_this_machine_are_answered_for(host: str | None, ours: bool) -> None:
    assert is_this_machine(host) is ours
