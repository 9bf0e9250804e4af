"""Faust's JSON serializer without NaN and infinities. It writes what an app sends and stores without a type of ours."""

from __future__ import annotations

from typing import Any

from faust.serializers import codecs
from faust.utils import json
from mode.utils.compat import want_bytes

from streamapp.finite import not_finite


class FiniteJson(codecs.json):
    """Faust's, but `RecordError` (`NotFinite`) where a number is NaN or infinite. It reads as Faust's does."""

    def _dumps(self, s: Any) -> bytes:
        if json.orjson is not None:
            return self._dumps_by_orjson(s)
        try:
            return want_bytes(json.dumps(s, allow_nan=False))
        except ValueError as exc:
            json.dumps(s, allow_nan=True)  # raises again what has nothing to do with such numbers
            raise not_finite() from exc

    def _dumps_by_orjson(self, s: Any) -> bytes:
        """As above where orjson is installed: it writes null for such a number."""
        raw = want_bytes(json.dumps(s))
        if b"null" in raw:
            try:
                json.json.dumps(s, cls=json.JSONEncoder, allow_nan=False)
            except ValueError as exc:
                raise not_finite() from exc
        return raw


def install() -> None:
    """Put it in the place of Faust's own in this process. A codec that somebody else registered as `json` stays."""
    if type(codecs.codecs["json"]) is codecs.json:
        codecs.register("json", FiniteJson())
