"""Upserts: what a table sends to a topic whenever a row changes, in the transaction of the change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from streamapp.clock import format_rfc3339
from streamapp.driver.streams.accepted import ConsumerChecks
from streamapp.driver.streams.schema import RecordSchema
from streamapp.driver.streams.test_outputs import Output
from streamapp.engine.unit import Unit
from streamapp.windows.windowers import Window

#: Fields of a window's upsert beside its key and what it adds up.
WINDOW_FIELDS = ("window_start", "window_end", "revision", "final")


#: Bytes of JSON text for one byte of a key or a state, at most; the key is there twice.
_JSON_GROWTH = 12
#: What the other fields of a final take, at most.
_FINAL_ROOM = 1024
_LAST_REVISION = 2**31


class Upserts:
    """Sends the upserts of one table to one topic. `key_field` names the field of a window's upsert with its key."""

    def __init__(self, app: Any, topic: Any, key_field: str | None = None) -> None:
        self._app = app
        self._schema = topic.schema
        self._accepted: ConsumerChecks | None = None
        self.topic: str = topic.get_topic_name()
        codec = self._schema.codec if isinstance(self._schema, RecordSchema) else None
        self._record_type: type[msgspec.Struct] | None = codec.record_type if codec else None
        self._encode = self._schema.dump if codec else self._faust_encode
        self.key_field = str(key_field or getattr(self._record_type, "KEY", "key"))

    def send(self, unit: Unit | None, key: str, value: Any) -> None:
        """Stage one upsert; `value` None is a tombstone. Without a worker it goes to `app.outputs`, if there are any.

        Raises `RecordError` for what the topic cannot take.
        """
        if unit is None:
            if self._app.outputs is not None:
                self._app.outputs.append(Output(self.topic, key, value, None, None))
            return
        raw_key, raw = self._encoded(key, value)
        unit.send((self.topic, self._app.engine.producer.partition_for(self.topic, raw_key), raw_key, raw, (), None))

    def check(self, key: str, value: Any) -> None:
        """Raise `RecordError` where `send` would."""
        if self._app.engine is not None:
            self._encoded(key, value)

    def judge(self, key: str, value: Any) -> None:
        """Raise `RecordError` for what an agent of this app that reads the topic would not accept."""
        if self._app.engine is None:
            return
        if self._accepted is None:
            self._accepted = ConsumerChecks(self._app, self.topic)
        if self._accepted.codecs and value is not None:
            raw_key, raw = self._encoded(key, value)
            producer = self._app.engine.producer
            count = producer.filling.topics[self.topic].partition_count
            self._accepted.check(raw_key, raw, value, producer.partition_for(self.topic, raw_key), count)

    def _encoded(self, key: str, value: Any) -> tuple[bytes, bytes | None]:
        raw_key, raw = key.encode(), None if value is None else self._encode(value)
        self._app.engine.producer.check(self.topic, raw_key, raw)
        return raw_key, raw

    def send_window(
        self, unit: Unit | None, key: str, window: Window, result: dict[str, Any] | None, revision: int, final: bool
    ) -> None:
        """Stage the upsert of one window, under `<key>|<window start>`; `result` None is a tombstone."""
        value = None if result is None else self._of_window(key, window, result, revision, final)
        self.send(unit, f"{key}|{instant(window.start)}", value)

    def check_final(self, key: str, window: Window, result: Callable[[], dict[str, Any]], size: int) -> None:
        """Raise `RecordError` where the final of a window would not fit the topic. `size`: bytes of key and state.

        A small one is not looked at: JSON takes six bytes for one at most, and numbers are no longer in text.
        """
        engine = self._app.engine
        if engine is None or size * _JSON_GROWTH + _FINAL_ROOM <= engine.producer.filling.room(self.topic):
            return
        self.check(f"{key}|{instant(window.start)}", self._of_window(key, window, result(), _LAST_REVISION, True))

    def _of_window(self, key: str, window: Window, result: dict[str, Any], revision: int, final: bool) -> Any:
        value: Any = {
            self.key_field: key,
            "window_start": instant(window.start),
            "window_end": instant(window.end),
            **result,
            "revision": revision,
            "final": final,
        }
        return value if self._record_type is None else self._record_type(**value)

    def problems(self, names: Collection[str]) -> Iterator[str]:
        """Where the fields of the record type are not those of the windows: `names` are what they add up."""
        if self._record_type is None:
            return
        made = {self.key_field, *WINDOW_FIELDS, *names}
        declared = set(self._record_type.__struct_fields__)
        if made != declared:
            missing, more = sorted(made - declared), sorted(declared - made)
            yield (
                f"its upserts in {self.topic} are {self._record_type.__name__}, "
                + " and ".join(
                    text
                    for text in (
                        f"which lacks {', '.join(missing)}" if missing else "",
                        f"nothing of the windows is called {', '.join(more)}" if more else "",
                    )
                    if text
                )
                + ". Give them the same names, in aggregate() and in the record type; KEY names the field of the key."
            )

    def _faust_encode(self, value: Any) -> bytes:
        raw, _ = self._schema.dumps_value(self._app, value, serializer=None, headers=[])
        return raw if isinstance(raw, bytes) else str(raw).encode()


@lru_cache(maxsize=4096)
def instant(milliseconds: int) -> str:
    """RFC 3339 text of an instant in milliseconds since the epoch."""
    return format_rfc3339(milliseconds / 1000)
