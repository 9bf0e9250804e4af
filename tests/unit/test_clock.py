"""RFC 3339: what is a time, what is not, and what is printed."""

from __future__ import annotations

import pytest

from streamapp.clock import format_rfc3339, parse_rfc3339


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2000-02-29T12:00:00Z", 951_825_600.0),
        ("2026-01-31T12:00:00.250Z", 1_769_860_800.25),
        ("2016-12-31T23:59:60Z", 1_483_228_799.0),
        ("2100-03-01T00:00:00Z", 4_107_542_400.0),
    ],
)
def test_an_instant_is_read(text: str, seconds: float) -> None:
    assert parse_rfc3339(text).timestamp() == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-31",
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00+00:00",
        "2026-W05-1T00:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "20260131T120000Z000Z",
        "2026-01-31T12:00:00+01:00Z",
    ],
)
def test_what_is_not_an_instant_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rfc3339(text)


def test_times_are_printed_in_utc() -> None:
    assert format_rfc3339(0) == "1970-01-01T00:00:00Z"
    assert format_rfc3339(1_769_860_800.25) == "2026-01-31T12:00:00.250Z"
