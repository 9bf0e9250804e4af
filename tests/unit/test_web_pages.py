"""The pages with hostile keys and values in every place: read by a parser, nothing is there that we did not write."""

from __future__ import annotations

import unicodedata
from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamapp.web import pages

#: Elements and attributes the pages are made of.
ELEMENTS = {
    "html", "head", "meta", "title", "link", "body", "header", "strong", "nav", "a", "main", "footer", "h1", "h2", "p",
    "div", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "dl", "dt", "dd", "form", "input", "button",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "rel", "href", "class", "scope", "action", "method", "aria-label",
    "placeholder", "required",
}  # fmt: skip

#: Marks that turn the direction of text around.
_BIDI = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")

_hostile = st.one_of(
    st.text(),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "' onload='x",
            "</title>",
            "]]>",
            "&amp;",
            "\x00",
        ]
    ),
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | _hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_hostile, inner, max_size=3),
    max_leaves=8,
)


class Reader(HTMLParser):
    """Notes elements, attributes and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.attributes: dict[str, list[str]] = {}
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.elements <= ELEMENTS
    assert reader.attributes.keys() <= ATTRIBUTES
    assert all(href.startswith("/") and not href.startswith("//") for href in reader.attributes["href"])
    return reader


def version() -> dict[str, Any]:
    return {
        "partition": 1,
        "committed_offset": 7,
        "changelog": "app-t-changelog",
        "inputs": {"in": 5},
        "as_of": "2026-01-31T12:00:00Z",
        "owner": "http://127.0.0.1:6066",
        "instance": None,
    }


@given(_hostile, _values, _hostile)
def test_a_row_shows_what_is_in_it_and_nothing_else(key: str, value: Any, instance: str) -> None:
    page = read(pages.row("app", {"table": "t", "key": key, "value": value, **version(), "instance": instance}))
    assert (pages.visible(key) or "(empty)") in "".join(page.text)


@given(st.text(), st.text())
def test_nothing_in_a_page_hides_or_turns_its_text_around(key: str, value: str) -> None:
    page = pages.row("app", {"table": "t", "key": key, "value": {value: value}, **version()})
    hidden = {
        char for char in page if unicodedata.category(char) in ("Cc", "Cs") or unicodedata.bidirectional(char) in _BIDI
    }
    assert hidden <= {"\n"}


@given(_hostile, _hostile, _values, _hostile)
def test_a_page_of_rows_is_only_ours(app_id: str, key: str, value: Any, about: str) -> None:
    rows = [{"key": key, "value": value, "url": "/tables/t/x?partition=1"}]
    for url in (None, "/tables/t?after=1.&limit=5"):
        answer = {"table": "t", "rows": rows, "next": url, "partitions": [version()]}
        read(pages.rows(app_id, answer, about))
    read(pages.rows(app_id, {**answer, "rows": []}, about))


@given(_hostile, _hostile, st.dictionaries(_hostile, _hostile))
def test_lists_and_problems_are_only_ours(title: str, text: str, names: dict[str, str]) -> None:
    read(pages.problem("app", title, text))
    read(pages.tables("app", {name: about for name, about in names.items() if name.isprintable()}))


def test_long_keys_and_values_are_cut_and_say_so() -> None:
    answer = {"table": "t", "key": "k" * 10_000, "value": "v" * 10_000, **version()}
    assert "(10,000 characters)" in pages.row("app", answer)
    rows = [{"key": "k" * 10_000, "value": "v" * 100_000, "url": "/x"}]
    page = pages.rows("app", {"table": "t", "rows": rows, "next": None, "partitions": []}, "")
    assert len(page) < 5_000
