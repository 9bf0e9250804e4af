"""A row's value is a copy: what is changed without being set again is lost, as README, docs and docstring say."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamapp.app import App
from streamapp.driver.tables.table import Table
from streamapp.testing import Bench

ROOT = Path(__file__).parents[2]
APP = """
from streamapp import App
app = App("lists")
rows = app.Table("rows", default=list)
boxes = app.Table("boxes", default=dict)

@app.agent(app.topic("in"))
async def keep(stream):
    async for key, value in stream.items():
        if value["set"]:
            rows["a"] = [*rows["a"], value["n"]]
            boxes["a"] = boxes["a"] | {"n": value["n"]}
        else:
            rows["a"].append(value["n"])
            boxes["a"]["n"] = value["n"]
"""


def test_what_is_set_again_is_kept_and_what_is_only_changed_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lists.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    with Bench("lists") as bench:
        bench.feed("in", {"set": True, "n": 1}, {"set": False, "n": 2}, {"set": True, "n": 3}, key="k")
        assert bench.table("rows") == {"a": [1, 3]}
        assert bench.table("boxes") == {"a": {"n": 3}}
        bench.feed("in", {"set": False, "n": 4}, key="k")
        assert bench.table("boxes") == {"a": {"n": 3}}


def test_people_can_read_it() -> None:
    assert issubclass(App("copies", autodiscover=False).conf.Table, Table)
    for text in (
        Table.__doc__ or "",
        (ROOT / "README.md").read_text(),
        (ROOT / "docs" / "guarantees.md").read_text(),
    ):
        assert ".append(item)" in text and "copy" in text
