"""Feeding, the parts without Kafka: lines in bounded memory, keys, pace, arguments of the client."""

from __future__ import annotations

import os
import shutil
import threading
import tracemalloc
from pathlib import Path

import pytest

from streamapp.errors import ConfigurationError, RecordError
from streamapp.ops.connection import ErrorListener, client_arguments
from streamapp.ops.feed import KINDS, FeedRate, Key, feed, numbered
from streamapp.ops.lines import InputLine, read_lines
from streamapp.settings import load
from streamapp.topics import CONTRACT, MAX_RECORD_BYTES

#: A certificate and its key.
PEM = Path(__file__).parents[1] / "data" / "localhost.pem"


def lines_of(tmp_path: Path, content: bytes, limit: int = 100) -> list[InputLine | None]:
    path = tmp_path / "lines"
    path.write_bytes(content)
    with path.open("rb") as file:
        return list(read_lines(file.fileno(), limit))


def test_lines_keep_their_bytes_and_lose_their_ends(tmp_path: Path) -> None:
    assert lines_of(tmp_path, b'{"a": 1} \n{"b":\xff}\r\n\n  \nlast') == [
        InputLine(1, b'{"a": 1} '),
        InputLine(2, b'{"b":\xff}'),
        InputLine(5, b"last"),
    ]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert lines_of(tmp_path, b"") == []


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_the_limit_is_exact(tmp_path: Path, end: bytes) -> None:
    assert lines_of(tmp_path, b"x" * 100 + end) == [InputLine(1, b"x" * 100)]
    assert lines_of(tmp_path, b"x" * 101 + end) == [InputLine(1, None)]


def test_a_line_without_end_is_passed_over_in_bounded_memory() -> None:
    reading, writing = os.pipe()
    chunk = b"x" * (1 << 16)

    def write() -> None:
        for _ in range(256):  # 16 MiB
            os.write(writing, chunk)
        os.write(writing, b"\nnext\n")
        os.close(writing)

    writer = threading.Thread(target=write)
    tracemalloc.start()
    try:
        writer.start()
        found = [line for line in read_lines(reading, 1000) if line]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        writer.join(10)
        os.close(reading)
    assert found == [InputLine(1, None), InputLine(2, b"next")]
    assert peak < 4 << 20


def test_a_silent_pipe_gives_none_and_does_not_block() -> None:
    reading, writing = os.pipe()
    try:
        lines = read_lines(reading, 100)
        assert next(lines) is None
        os.write(writing, b"one\ntw")
        assert next(lines) == InputLine(1, b"one")
        assert next(lines) is None
        os.write(writing, b"o\n")
        assert next(lines) == InputLine(2, b"two")
    finally:
        os.close(reading)
        os.close(writing)


KEY = Key("from_account")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b'{"from_account":"alice"}', b"alice"),
        (b'{"amount":"not a number","from_account":"\\u00e9", "x":[1]}', "é".encode()),
        (b' {"from_account":""}\t', b""),
    ],
)
def test_only_the_key_is_looked_at(line: bytes, key: bytes) -> None:
    assert KEY.of(line) == key


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nonsense", "malformed"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `from_account`"),
        (b'{"from_account":7}', "Expected `str`, got `int`"),
        (b'{"from_account":null}', "Expected `str`, got `null`"),
        (b'{"from_account":"a"} {}', "trailing"),
        (b'{"from_account":"a"', "truncated"),
        (b'{"from_account":"\xff"}', "utf-8"),
        (b'{"from_account":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion"),
        (b'{"from_account":"' + b"a" * MAX_RECORD_BYTES + b'"}', "longer than 1048576 bytes"),
        (None, "longer than 1048576 bytes"),
    ],
)
def test_a_line_that_cannot_be_keyed_says_why(line: bytes | None, reason: str) -> None:
    with pytest.raises(RecordError, match=f"(?i){reason}"):
        KEY.of(line)


def test_pace_is_even_and_does_not_rush_after_a_pause() -> None:
    pace = FeedRate(10, now=0.0)
    assert [round(pace.wait_s(0.0), 3) for _ in range(3)] == [0.0, 0.1, 0.2]
    # 60 s of silence: one step may be made up for, then the beat is 0.1 s again.
    assert [round(pace.wait_s(60.0), 3) for _ in range(4)] == [0.0, 0.0, 0.1, 0.2]


def test_without_a_rate_nothing_waits() -> None:
    pace = FeedRate(None, now=0.0)
    assert [pace.wait_s(0.0) for _ in range(3)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(ConfigurationError, match="rate"):
        feed(load(), KINDS["transfers"], numbered([]), rate=rate)


def test_security_settings_reach_the_client(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("ca", "certificate", "key")}
    for file in files.values():
        shutil.copy(PEM, file)
    settings = load(
        broker="one:1,two:2",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="u",
        sasl_password="p",
        ssl_cafile=files["ca"],
        ssl_certfile=files["certificate"],
        ssl_keyfile=files["key"],
    )
    found = client_arguments(settings, ErrorListener())
    expected = {
        "bootstrap.servers": "one:1,two:2",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "p",
        "ssl.ca.location": str(files["ca"]),
        "ssl.certificate.location": str(files["certificate"]),
        "ssl.key.location": str(files["key"]),
    }
    assert {name: found[name] for name in expected} == expected


def test_plain_connections_say_nothing_about_security() -> None:
    assert not [name for name in client_arguments(load(), ErrorListener()) if name.startswith(("sasl", "ssl"))]


def test_each_kind_goes_to_a_topic_of_the_contract_under_its_records_key() -> None:
    assert {name: (kind.topic, kind.key_field) for name, kind in KINDS.items()} == {
        "transfers": ("transfer", "from_account"),
        "payments": ("payment", "merchant_id"),
        "clicks": ("ad-click", "advertiser_id"),
    }
    assert {kind.topic for kind in KINDS.values()} <= {declared.name for declared in CONTRACT if declared.consumed}
