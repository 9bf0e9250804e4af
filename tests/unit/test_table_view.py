"""Rows shown to outsiders: whatever a stored key is, its path leads back to its row and to no other one."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamapp.app import App
from streamapp.delivery.inbox import InboxStatus, Mark, mark_key
from streamapp.queries.table_view import Missing
from streamapp.queries.views import view_of
from streamapp.settings import Settings
from streamapp.state import MemoryState, StoreIdentity, TablePartition

_texts = st.text(max_size=8)
#: Stored keys: JSON texts as Faust writes them and otherwise, numbers, lists, bytes that are nothing.
_stored = st.one_of(
    _texts.map(lambda text: json.dumps(text).encode()),
    st.characters(exclude_categories=["Cs"]).map(lambda text: json.dumps(text, ensure_ascii=False).encode()),
    _texts.map(lambda text: text.encode("utf-8", "replace")),
    st.integers().map(lambda number: str(number).encode()),
    st.lists(_texts, max_size=3).map(lambda items: json.dumps(items).encode()),
    st.binary(min_size=1, max_size=8),
)


def app() -> App:
    return App(settings=Settings(id="shop"), autodiscover=False)


def stored(rows: dict[bytes, bytes]) -> TablePartition:
    partition = MemoryState().open_partition(StoreIdentity("shop", "t", 0, "log"))
    unit = partition.begin()
    for key, value in rows.items():
        unit.set(key, value)
    unit.merge()
    partition.commit(1)
    return partition


TABLE: Any = app().Table("t")


@given(st.sets(_stored, min_size=1, max_size=8))
@example({b'"a"', b"a", b'"\\"a\\""'})
@example({b'""', b'".."', b"..", b'"\\u002e."'})
@example({b'"\\ud800"', b"\xff", b"\\xff", b'"\\\\xff"'})
def test_every_row_has_a_path_that_leads_back_to_it(keys: set[bytes]) -> None:
    partition = stored({key: json.dumps(number).encode() for number, key in enumerate(sorted(keys))})
    view = view_of(TABLE)
    found, after = {}, None
    while page := view.page(partition.committed, after, 3):
        assert len(page) <= 3
        after = page[-1][0]
        found.update(page)
    assert found.keys() == keys
    for key, row in found.items():
        raw = partition.committed.get(key)
        assert raw is not None
        path = unquote_to_bytes(row.path)
        assert view.find(partition.committed, path, None, is_stored=row.is_stored) == row.value == json.loads(raw)
        assert path not in (b"", b".", b"..") or key == path  # which browsers would take for another page
    assert len({(row.path, row.is_stored) for row in found.values()}) == len(keys)


def test_a_text_is_looked_up_as_the_agent_wrote_it() -> None:
    partition = stored({TABLE.key_bytes("alice"): b'{"n":1}', b"5": b"2", TABLE.key_bytes("\u00fc"): b"3"})
    view = view_of(TABLE)
    assert view.find(partition.committed, b"alice", None) == {"n": 1}
    assert view.find(partition.committed, b"5", None) == 2
    assert view.find(partition.committed, "\u00fc".encode(), None) == 3
    assert view.find(partition.committed, b"bob", None) is None
    assert view.event_key(b"alice") == b"alice"


@pytest.mark.parametrize("raw", [b"\xff\x00", b"NaN", b"{", b"[" * 5000], ids=["bytes", "NaN", "cut off", "deep"])
def test_a_value_that_is_no_json_is_shown_as_bytes(raw: bytes) -> None:
    partition = stored({b'"k"': raw})
    assert set(view_of(TABLE).find(partition.committed, b"k", None)) == {"base64"}


class TestInbox:
    """Marks: by their key, and by the event's id under its record's key."""

    @staticmethod
    def view() -> Any:
        table = app().use_inbox()
        table.agents = [type("Agent", (), {"name": name}) for name in ("pay", "ship")]
        return view_of(table)

    def test_a_mark_is_found_by_its_key(self) -> None:
        key = mark_key("pay", b"order-1", ("e-1",))
        partition = stored({key: Mark(InboxStatus.FAILED, 2, 0, b"c" * 16).pack()})
        value = self.view().find(partition.committed, key, None)
        assert value == {
            "status": "FAILED",
            "attempts": 2,
            "appended_at": "1970-01-01T00:00:00Z",
            "content": "63" * 16,
        }
        ((_, row),) = self.view().page(partition.committed, None, 10)
        assert (row.key, unquote_to_bytes(row.path), row.value) == (key.decode(), key, value)

    def test_an_event_is_found_at_every_agent_and_in_every_part_of_its_id(self) -> None:
        keys = [
            mark_key("pay", b"order-1", ("e-1",)),
            mark_key(
                "ship",
                b"order-1",
                (
                    "e-1",
                    "second field",
                ),
            ),
            mark_key("ship", b"order-1", ("e-11",)),
            mark_key("pay", b"order-2", ("e-1",)),
        ]
        partition = stored({key: Mark(InboxStatus.PROCESSED, 1, 0, b"c" * 16).pack() for key in keys})
        found = self.view().find(partition.committed, b"e-1", b"order-1")
        assert [mark["key"].encode() for mark in found] == keys[:2]
        assert self.view().find(partition.committed, b"e-2", b"order-1") is None

    def test_where_a_mark_is_follows_from_its_key(self) -> None:
        view = self.view()
        assert view.event_key(mark_key("pay", b"order-1", ("e",))) == b"order-1"
        assert view.event_key(mark_key("pay", b"\xff", ("e",))) == b"\xff"
        assert view.event_key(mark_key("pay", None, ("e",))) is None
        for text in (b"e-1", b"[1,2]", b"[" * 5000, b"\xff"):
            with pytest.raises(Missing, match=r"\?key="):
                view.event_key(text)
