"""Late records are as they came, say what they were too late for, and fit their topic whatever came."""

from __future__ import annotations

from streamapp.delivery.late import late_record
from streamapp.delivery.side_output import Source

MINUTE = 60_000


def source(value: bytes = b"x", headers: tuple[tuple[str, bytes], ...] = ()) -> Source:
    return Source("payment", 3, 17, 1_700_000_000_000, b"k", value, headers)


def test_bytes_partition_and_headers_are_kept_and_the_windows_added() -> None:
    windows = [(0, 5 * MINUTE), (-MINUTE, 4 * MINUTE)]
    late = late_record(source(headers=(("trace", b"1"),)), "totals", windows, 6 * MINUTE + 1, size_max=1 << 20)
    assert (late.topic, late.partition, late.key, late.value) == ("payment-late", 3, b"k", b"x")
    assert dict(late.headers) == {
        "trace": b"1",
        "late-original-topic": b"payment",
        "late-original-partition": b"3",
        "late-original-offset": b"17",
        "late-original-timestamp": b"1700000000000",
        "late-table": b"totals",
        "late-windows": b"1970-01-01T00:00:00Z/1970-01-01T00:05:00Z,1969-12-31T23:59:00Z/1970-01-01T00:04:00Z",
        "late-watermark": b"1970-01-01T00:06:00.001Z",
    }


def test_of_very_many_windows_it_says_how_many_there_are() -> None:
    windows = [(number * MINUTE, (number + 1) * MINUTE) for number in range(1000)]
    late = late_record(source(), "totals", windows, 0, size_max=1 << 20)
    assert dict(late.headers)["late-windows"].endswith(b" and 900 more")


def test_what_is_too_large_leaves_its_hash_and_a_null_header_is_no_harm() -> None:
    headers = (("trace", None),)
    late = late_record(source(b"x" * 5000, headers), "totals", [(0, 1)], 0, size_max=4000)  # type: ignore[arg-type]
    assert (late.key, late.value) == (b"k", None)
    assert dict(late.headers)["late-value-bytes"] == b"5000"
