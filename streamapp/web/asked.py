"""What a request asks for: path, query and form, out of bytes that anybody may have sent. Pure."""

from __future__ import annotations

import binascii
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes

#: Rows of a page: unless the request says otherwise, and at most.
ROWS_USUAL, ROWS_MAX = 50, 200
#: Parameters of a query at most.
_FIELDS_MAX = 16


class BadRequest(Exception):
    """The request cannot be understood; `str()` says what is wrong with it."""


class RowRequest(NamedTuple):
    """A path's parts, decoded, and its parameters. Bytes, because keys need not be UTF-8."""

    parts: tuple[bytes, ...]
    query: Mapping[str, bytes]

    @property
    def key(self) -> bytes | None:
        """`?key=`: the key of the events that wrote the row."""
        return self.query.get("key")

    @property
    def is_stored(self) -> bool:
        """`?stored=1`: the path's key is the row's key as it is stored."""
        return self.query.get("stored") == b"1"

    @property
    def partition(self) -> int | None:
        """`?partition=`: only there."""
        return self._number("partition", 0, 2**31 - 1)

    @property
    def limit(self) -> int:
        """`?limit=`: rows of the page."""
        return self._number("limit", 1, ROWS_MAX) or ROWS_USUAL

    @property
    def after(self) -> tuple[int, bytes | None] | None:
        """`?after=`: where the page before ended; the partition, and the stored key in it."""
        raw = self.query.get("after")
        return None if raw is None else place(raw)

    def _number(self, name: str, least: int, most: int) -> int | None:
        raw = self.query.get(name)
        if raw is None:
            return None
        if not raw.isdigit() or len(raw) > 10 or not least <= int(raw) <= most:
            raise BadRequest(f"{name}= is a number from {least} to {most}")
        return int(raw)


def cursor(partition: int, after: bytes | None) -> str:
    """A place between two rows as text: behind the stored key `after` of a partition, or before its first row."""
    return f"{partition}.{urlsafe_b64encode(after or b'').decode()}"


def place(raw: bytes) -> tuple[int, bytes | None]:
    """What `cursor` wrote."""
    number, _, key = raw.partition(b".")
    try:
        if number.isdigit() and len(number) < 10:
            return int(number), b64decode(key, b"-_", validate=True) if key else None
    except (binascii.Error, ValueError):
        pass
    raise BadRequest("after= is not from a page's link to the next one")


def asked(target: str) -> RowRequest:
    """The request's target, as it came. `BadRequest` for one that is no path of ours."""
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        raise BadRequest("the request's target is not a path")
    parts = [unquote_to_bytes(part) for part in path[1:].split("/")]
    if parts[-1] == b"":
        parts.pop()
    try:
        fields = parse_qsl(query, keep_blank_values=True, errors="surrogateescape", max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise BadRequest(f"more than {_FIELDS_MAX} parameters") from None
    return RowRequest(tuple(parts), {name: value.encode("utf-8", "surrogateescape") for name, value in fields})


def wants_html(accept: str) -> bool:
    """Whether a page is wanted rather than JSON: what `Accept` names with the higher weight, JSON when it is equal."""
    weights = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.lower().split(",")[:32]:
        name, *parameters = (field.strip() for field in part.split(";"))
        if name in weights:
            weights[name] = max(weights[name], _weight(parameters))
    return weights["text/html"] > weights["application/json"]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
