"""A table's keys have the bytes Faust gives them, so that a changelog written by Faust is restored as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.app import App
from streamapp.settings import load

APP = App(settings=load(id="keys"))
TABLE = APP.Table("keys", default=int)


@given(st.text() | st.integers() | st.lists(st.text()))
@pytest.mark.filterwarnings("ignore")
def test_keys_are_those_of_fausts_serializer(key: object) -> None:
    assert TABLE.key_bytes(key) == APP.serializers.dumps_key(None, key, serializer="json")


@pytest.mark.parametrize("key", ["", "a", '"', "\\", "\x7f", "é", "a b~", "\n", "\u2028", "[]", "@cdnow-00001"])
def test_the_short_way_for_plain_text_makes_no_difference(key: str) -> None:
    raw = TABLE.key_bytes(key)
    assert raw == APP.serializers.dumps_key(None, key, serializer="json")
    assert TABLE.key_of(raw) == key
