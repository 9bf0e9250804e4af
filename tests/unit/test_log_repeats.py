"""Lines that a client library repeats ten times a second are said now and then, with their number."""

from __future__ import annotations

import logging

from streamapp.log import Repeats


def said(filter: Repeats, at_s: float, text: str = "no broker", name: str = "aiokafka.client") -> str | None:
    record = logging.LogRecord(name, logging.ERROR, "", 0, "%s", (text,), None)
    record.created = 1_700_000_000 + at_s
    return record.getMessage() if filter.filter(record) else None


def test_a_repeated_line_is_said_after_pauses_that_double() -> None:
    repeats = Repeats()
    times = [at / 10 for at in range(300) if said(repeats, at / 10)]
    assert times == [0.0, 2.0, 6.0, 14.0]
    assert said(repeats, 30.1) == "no broker (159 times more since)"


def test_other_lines_and_our_own_pass() -> None:
    repeats = Repeats()
    assert said(repeats, 0) == "no broker"
    assert said(repeats, 0.1) is None
    assert said(repeats, 0.1, "another") == "another"
    assert [said(repeats, 0.1, name="streamapp.driver") for _ in range(3)] == ["no broker"] * 3


def test_a_line_of_another_day_is_new() -> None:
    repeats = Repeats()
    assert [said(repeats, at) for at in (0, 1)] == ["no broker", None]
    assert said(repeats, 1000) == "no broker"
