"""Dead letters keep the record as it came, and fit their topic whatever came."""

from __future__ import annotations

from streamapp.delivery.dead_letter import Source, dead_letter
from streamapp.errors import RecordError


def source(value: bytes | None = b"x", key: bytes | None = b"k", headers: tuple[tuple[str, bytes], ...] = ()) -> Source:
    return Source("transfer", 3, 17, 1_700_000_000_000, key, value, headers)


def test_bytes_partition_and_headers_are_kept_and_the_reason_added() -> None:
    error = RecordError("the key 'k' is not the field from_account", kind="KeyMismatch")
    letter = dead_letter(source(headers=(("trace", b"1"),)), error, group="g", attempts=2, size_max=1 << 20)
    assert (letter.topic, letter.partition, letter.key, letter.value) == ("transfer-dlt", 3, b"k", b"x")
    headers = dict(letter.headers)
    assert letter.headers[0] == ("trace", b"1")
    assert headers["dlt-original-offset"] == b"17"
    assert headers["dlt-exception-fqcn"] == b"KeyMismatch"
    assert headers["dlt-exception-message"].startswith(b"the key 'k'")
    assert (headers["dlt-original-consumer-group"], headers["dlt-attempts"]) == (b"g", b"2")


def test_another_exception_is_named_with_its_module_and_its_message_is_cut_at_a_character() -> None:
    headers = dict(dead_letter(source(), ValueError("é" * 1000), group="g", attempts=1, size_max=1 << 20).headers)
    assert headers["dlt-exception-fqcn"] == b"builtins.ValueError"
    assert headers["dlt-exception-message"].decode() == "é" * 512


def test_what_is_too_large_leaves_its_hash() -> None:
    letter = dead_letter(source(value=b"x" * 5000), RecordError("r"), group="g", attempts=1, size_max=4000)
    assert (letter.key, letter.value) == (b"k", None)
    assert dict(letter.headers)["dlt-value-bytes"] == b"5000"
    huge = dead_letter(source(key=b"k" * 9000), RecordError("r"), group="g", attempts=1, size_max=4000)
    assert (huge.key, huge.value) == (None, None)
