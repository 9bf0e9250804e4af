"""What bytes are that are no JSON: formats that senders use by mistake, told by how they begin. Only certain ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

_REGISTRY = (
    "bytes of a Schema Registry serializer (Avro, Protobuf or JSON Schema behind schema id {id}); send plain JSON, "
    "such as with JsonConverter and schemas.enable=false"
)
_COMPRESS = "send plain JSON, and let the producer compress whole batches (compression.type)"
_PLAIN = "send plain JSON, UTF-8"


class _Format(NamedTuple):
    begins: bytes
    says: str
    #: What else must be so.
    fits: Callable[[bytes], bool] = lambda value: True


_FORMATS = (
    _Format(b"\xff\xfe\x00\x00", f"UTF-32 text; {_PLAIN}"),
    _Format(b"\x00\x00\xfe\xff", f"UTF-32 text; {_PLAIN}"),
    _Format(b"\xff\xfe", f"UTF-16 text; {_PLAIN}"),
    _Format(b"\xfe\xff", f"UTF-16 text; {_PLAIN}"),
    _Format(b"{\x00", f"UTF-16 text; {_PLAIN}"),
    _Format(b"\x00{\x00", f"UTF-16 text; {_PLAIN}"),
    _Format(b"\xef\xbb\xbf", "text with a byte order mark (EF BB BF) in front; send it without"),
    _Format(b"\x1f\x8b\x08", f"gzip; {_COMPRESS}"),
    _Format(b"\x28\xb5\x2f\xfd", f"zstd; {_COMPRESS}"),
    _Format(b"\x04\x22\x4d\x18", f"lz4; {_COMPRESS}"),
    _Format(b"\x82SNAPPY\x00", f"snappy; {_COMPRESS}"),
    _Format(b"PK\x03\x04", "a ZIP archive; send plain JSON"),
    _Format(b"Obj\x01", "an Avro file; send plain JSON"),
    _Format(
        b"\xc3\x01", "an Avro object with its schema's fingerprint; send plain JSON", lambda value: len(value) >= 10
    ),
    _Format(b"\xac\xed\x00\x05", "a serialized Java object; send plain JSON"),
    _Format(b"\x80\x04\x95", "a Python pickle; send plain JSON"),
    _Format(b"\x80\x05\x95", "a Python pickle; send plain JSON"),
    _Format(b"\xd9\xd9\xf7", "CBOR; send plain JSON"),
    _Format(b"\x03\x00", "bytes of the AWS Glue Schema Registry; send plain JSON", lambda value: len(value) >= 18),
    _Format(b"\x03\x05", "bytes of the AWS Glue Schema Registry; send plain JSON", lambda value: len(value) >= 18),
    _Format(b"<?xml", "XML; send JSON"),
    _Format(b"<!DOCTYPE", "a web page; send JSON"),
    _Format(b"<html", "a web page; send JSON"),
    _Format(b"{'", "a Python dictionary as it prints itself; json.dumps() makes JSON of it"),
    _Format(b"eyJ", "JSON in base64; send it as it was before", lambda value: len(value) % 4 == 0),
)


def recognized(value: bytes) -> str | None:
    """What a value that is no JSON is instead, and what to send; None: nobody knows."""
    if not value:
        return "nothing: the value is empty; send a null value where you mean to delete a key"
    for known in _FORMATS:
        if value.startswith(known.begins) and known.fits(value):
            return known.says
    if value[0] == 0 and len(value) >= 6:
        return _REGISTRY.format(id=int.from_bytes(value[1:5], "big"))
    return None
