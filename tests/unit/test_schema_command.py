"""`streamapp schema`: what is shown, released and refused, with the service's records and with a user's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from streamapp import records
from streamapp.cli import main
from streamapp.ops import schemas

ROOT = Path(__file__).parents[2]
SHOP = """\
from typing import ClassVar
import msgspec

class Base(msgspec.Struct):
    id: str

class Order(Base):
    KEY: ClassVar[str] = "customer"
    customer: str
    cents: int

class Note(Base):
    text: str = ""
"""


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.run(["schema", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the module `shop` anew each time it is called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str) -> None:
        (tmp_path / "shop.py").write_text(text)
        sys.modules.pop("shop", None)

    yield write
    sys.modules.pop("shop", None)


def test_every_record_of_the_service_has_a_schema_that_fits_what_it_writes() -> None:
    found = schemas.records()
    assert {"Transfer", "BalanceEntry", "AccountBalance", "TransferRejected"} <= found.keys()
    assert "Event" not in found
    for name, record in found.items():
        schema = schemas.schema_of(record)
        body = schema["$defs"][name]
        assert set(body["properties"]) == set(record.__struct_encode_fields__)
        assert schema.get("x-key") == getattr(record, "KEY", None)
        assert "\n    " not in body.get("description", "")


def test_the_records_read_what_the_released_ones_wrote() -> None:
    before = schemas.released(ROOT / "schemas")
    now = {name: schemas.schema_of(record) for name, record in schemas.records().items()}
    assert [finding for finding in schemas.check(now, before) if finding.breaks] == []
    assert before.keys() >= {"Transfer", "BalanceEntry", "AccountBalance", "TransferRejected"}


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran(capsys, "show", "Transfer")
    assert code == 0
    assert json.loads(out) == schemas.schema_of(records.Transfer)
    code, out, _ = ran(capsys, "show")
    assert code == 0
    assert "from_account" in out
    code, out, _ = ran(capsys, "show", "--json")
    assert json.loads(out)["Transfer"]["x-key"] == "from_account"
    code, _, err = ran(capsys, "show", "Transfr")
    assert code == 2
    assert "There is no record Transfr" in err


def test_what_was_released_is_held_against_later_versions(shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shop(SHOP)
    options = ("--records", "shop", "--released", "kept")
    assert ran(capsys, "check", *options)[0] == 2  # nothing was released yet
    code, out, _ = ran(capsys, "release", *options, "--version", "1.2", "--json")
    assert (code, json.loads(out)["written"]) == (0, ["Note", "Order"])
    assert json.loads(Path("kept/Order.json").read_text())["x-released"] == "1.2"
    code, out, _ = ran(capsys, "check", *options)
    assert (code, out.split()) == (0, ["same", "Note", "same", "Order"])

    shop(
        SHOP.replace("    cents: int\n", "    cents: int\n    currency: str = 'EUR'\n")
        + "class More(Base):\n    pass\n"
    )
    code, out, _ = ran(capsys, "check", *options, "--json")
    states = {row["record"]: row["state"] for row in json.loads(out)["records"]}
    assert (code, states) == (0, {"More": "new", "Note": "same", "Order": "changed"})
    assert ran(capsys, "release", *options)[1].startswith("2 written")

    shop(SHOP.replace("cents: int", "cents: str"))
    code, out, _ = ran(capsys, "check", *options)
    assert code == 1
    assert "Order.cents takes string, and records have integer" in out
    assert "add another one, with a default" in out
    assert "More is gone" in out
    before = {path.name: path.read_bytes() for path in Path("kept").iterdir()}
    code, out, err = ran(capsys, "release", *options)
    assert code == 1
    assert "nothing was written" in err
    assert {path.name: path.read_bytes() for path in Path("kept").iterdir()} == before


def test_an_upgrade_that_must_begin_with_the_readers_says_so(shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shop(SHOP)
    options = ("--records", "shop", "--released", "kept")
    ran(capsys, "release", *options)
    shop(SHOP.replace("    cents: int\n", ""))  # readers of the released version require it
    code, out, _ = ran(capsys, "check", *options)
    assert code == 0
    assert "Upgrade every reader before the first writer" in out
    assert "Order.cents is required" in out


@pytest.mark.parametrize(
    "text, reason",
    [("{", "cannot be read as JSON"), ("[]", "is no JSON Schema but a list"), ("\udcff", "cannot be read as JSON")],
    ids=["cut off", "a list", "not UTF-8"],
)
def test_a_damaged_file_is_named(shop: Any, capsys: pytest.CaptureFixture[str], text: str, reason: str) -> None:
    shop(SHOP)
    Path("kept").mkdir()
    Path("kept/Order.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    code, _, err = ran(capsys, "check", "--records", "shop", "--released", "kept")
    assert code == 2
    assert "Order.json" in err
    assert reason in err


def test_a_module_that_has_no_records_is_named(shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shop("x = 1\n")
    code, _, err = ran(capsys, "show", "--records", "shop")
    assert (code, "has no msgspec.Struct" in err) == (2, True)
    code, _, err = ran(capsys, "show", "--records", "no_such_module")
    assert (code, "cannot be imported" in err) == (2, True)
