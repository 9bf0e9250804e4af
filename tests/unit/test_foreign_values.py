"""A value that is no JSON is named where it is certain what it is, and a time that is nearly one says what is wrong."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import struct
import zipfile
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import cramjam
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamapp.clock import parse_rfc3339
from streamapp.codec import Codec
from streamapp.errors import RecordError
from streamapp.foreign import recognized


class Order(msgspec.Struct, frozen=True):
    order_id: str


TEXT = '{"order_id":"1"}'
GOOD = TEXT.encode()


def archive() -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("order", GOOD)
    return made.getvalue()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the value is empty"),
    "schema registry, avro": (struct.pack(">bi", 0, 41) + b"\x02\x31", "Schema Registry serializer"),
    "schema registry, json": (struct.pack(">bi", 0, 100_017) + GOOD, "schema id 100017"),
    "schema registry, protobuf": (struct.pack(">bi", 0, 1) + b"\x00\x0a\x011", "schema id 1)"),
    "mark": (b"\xef\xbb\xbf" + GOOD, "byte order mark"),
    "utf-16": (TEXT.encode("utf-16"), "UTF-16"),
    "utf-16-le": (TEXT.encode("utf-16-le"), "UTF-16"),
    "utf-16-be": (TEXT.encode("utf-16-be"), "UTF-16"),
    "utf-32": (TEXT.encode("utf-32"), "UTF-32"),
    "gzip": (gzip.compress(GOOD), "gzip"),
    "zstd": (bytes(cramjam.zstd.compress(GOOD)), "zstd"),
    "lz4": (bytes(cramjam.lz4.compress(GOOD)), "lz4"),
    "zip": (archive(), "ZIP"),
    "avro file": (b"Obj\x01" + GOOD, "Avro file"),
    "avro object": (b"\xc3\x01" + bytes(8) + b"\x02", "fingerprint"),
    "java": (b"\xac\xed\x00\x05sr", "Java object"),
    "pickle": (pickle.dumps({"order_id": "1", "more": "text"}, 4), "pickle"),
    "glue": (b"\x03\x00" + bytes(16) + b"\x02", "Glue"),
    "xml": (b'<?xml version="1.0"?>', "XML"),
    "web page": (b"<html>", "web page"),
    "repr": (str({"order_id": "1"}).encode(), "json.dumps()"),
    "base64": (base64.b64encode(GOOD), "base64"),
}


@pytest.mark.parametrize(("value", "said"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_certain_is_said(value: bytes, said: str) -> None:
    with pytest.raises(RecordError) as caught:
        Codec(Order).decode(value)
    assert str(caught.value).startswith("not JSON but ") and said in str(caught.value)
    assert caught.value.kind == "MalformedRecord"
    assert len(str(caught.value).encode()) < 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["", " ", "\n\t"]))
@example("eyJh", "")
def test_no_json_is_taken_for_anything_else(document: Any, space: str) -> None:
    assert recognized((space + json.dumps(document)).encode()) is None
    assert recognized((space + json.dumps(document, ensure_ascii=False)).encode("utf-8", "surrogatepass")) is None


@given(st.binary(max_size=40))
def test_whatever_comes_it_is_an_error_in_a_sentence(value: bytes) -> None:
    with pytest.raises(RecordError) as caught:
        Codec(Order).decode(value)
    assert str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-01-31T12:00:00+00:00", "Z at the end, for +00:00 as well"),
        (datetime(2026, 1, 31, 12, tzinfo=UTC).isoformat(), "Z at the end, for +00:00 as well"),
        ("2026-01-31T12:00:00-00:00", "Z at the end"),
        ("2026-01-31 12:00:00Z", "write T between date and time"),
        ("2026-01-31T12:00Z", "hours to seconds"),
        (datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=1))).isoformat(), "it ends in +01:00"),
        (datetime(2026, 1, 31, 12).isoformat(), "it has no time zone"),
        ("yesterday", "such as 2026-01-31T12:00:00Z"),
        ("", "such as 2026-01-31T12:00:00Z"),
    ],
)
def test_a_time_that_is_nearly_one_says_what_is_wanted(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="is not RFC 3339 in UTC") as caught:
        parse_rfc3339(text)
    assert said in str(caught.value)


@given(st.text(max_size=40))
def test_a_time_that_is_none_is_always_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not RFC 3339 in UTC"):
        parse_rfc3339(text)
