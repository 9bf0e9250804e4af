"""`crash_everywhere`: what is in the transaction passes, and a planted effect beside it is found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from streamapp.engine.committer import Committer
from streamapp.state import TablePartition
from streamapp.testing import Bench, CrashMatters, crash_everywhere
from streamapp.testing.crash_points import POINTS

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from planted_store import plant_store

SHOP = """
    from typing import ClassVar
    import asyncio
    import pathlib
    import msgspec
    from streamapp import App, inbox

    class Order(msgspec.Struct, frozen=True):
        KEY: ClassVar[str] = "customer"
        order_id: str
        customer: str
        cents: int

    app = App("shop")
    totals = app.topic("customer-total")
    spent = app.Table("spent", default=int)
    count = 0
    LEDGER = pathlib.Path(__file__).with_name("ledger.txt")

    @app.agent(app.topic("order", value_type=Order))
    @inbox(aggregate_type="ORDER", event_type="ORDER_ADD_UP", event_id="order_id")
    async def add_up(stream):
        global count
        async for order in stream:
            spent[order.customer] += order.cents
            # PLANTED
            await totals.send(key=order.customer, value={"cents": spent[order.customer]})
"""
INTO_A_FILE = """
            with LEDGER.open("a") as ledger:
                ledger.write(order.order_id + chr(10))
"""
IN_THE_MODULE = """
            count += 1
            await totals.send(key=order.customer, value={"number": count})
"""


def order(number: int) -> dict[str, Any]:
    return {"order_id": str(number), "customer": f"c{number % 3}", "cents": number}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "shop.py").write_text(dedent(SHOP))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "shop.py"
    sys.modules.pop("shop", None)


def plant(shop: Path, what: str) -> None:
    text = dedent(SHOP)
    shop.write_text(text.replace("        # PLANTED\n", dedent(what).replace("\n", "\n        ").rstrip(" ")))


def scenario(app: Bench) -> Any:
    ledger = app.module.LEDGER
    ledger.unlink(missing_ok=True)
    app.feed("order", *(order(number) for number in range(8)), order(3), {"order_id": 5})
    app.settle()
    app.feed("order", *(order(number) for number in range(8, 12)))
    app.settle()
    return ledger.read_text().split() if ledger.exists() else []


def test_what_is_in_the_transaction_happens_once_at_every_point(shop: Path) -> None:
    report = crash_everywhere(scenario, "shop")
    assert not any(crash.differences for crash in report.crashes)
    reached = {crash.point for crash in report.crashes}
    assert reached | set(report.not_reached) == POINTS.keys()
    assert set(report.not_reached) <= {
        "produce.one_refused",
        "commit.while_event_runs",
        "window.before_final",
        "inbox.before_expiry",
    }
    assert {(crash.point, crash.disk) for crash in report.crashes} >= {
        ("commit.before_end", "kept"),
        ("commit.before_end", "lost"),
        ("restore.half_done", "lost"),
    }
    assert "commit.before_store (committed, not on the worker's disk yet), hit " in str(report)


def test_an_effect_in_a_file_happens_again(shop: Path) -> None:
    plant(shop, INTO_A_FILE)
    with pytest.raises(CrashMatters) as caught:
        crash_everywhere(scenario, "shop", points=["commit.before_end"])
    text = str(caught.value)
    assert "at commit.before_end (outputs and offsets acknowledged, nothing committed)" in text
    assert "what the scenario returned: " in text
    assert 'To repeat one: crash_everywhere(scenario, ..., points=["commit.before_end"], seed=0)' in text
    assert len(caught.value.report.crashes) == 2


def test_a_variable_of_the_module_is_forgotten(shop: Path) -> None:
    plant(shop, IN_THE_MODULE)
    with pytest.raises(CrashMatters, match=r"records in customer-total: .* missing: .*number"):
        crash_everywhere(scenario, "shop", disks=["kept"])


def test_a_point_that_is_not_reached_is_said(shop: Path) -> None:
    with pytest.raises(ValueError, match=r"does not reach inbox\.before_expiry"):
        crash_everywhere(scenario, "shop", points=["inbox.before_expiry", "commit.before_end"])


def test_a_scenario_that_fails_after_a_crash_is_a_difference(shop: Path) -> None:
    def starts_once(app: Bench) -> None:
        app.feed("order", order(1))
        app.settle()
        assert app.starts == 1

    with pytest.raises(CrashMatters, match="the scenario failed: AssertionError"):
        crash_everywhere(starts_once, "shop", points=["commit.before_end"], disks=["kept"])


def test_a_scenario_that_fails_by_itself_fails_as_it_is(shop: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        crash_everywhere(lambda app: 1 / 0, "shop")


def test_state_that_is_written_before_the_commit_is_found(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Committer._commit

    async def early(self: Any) -> bool:
        for task in self._owned.tasks:
            store = task.stores["spent"]
            store._storage.write(list(store.overlay.items()), None)
        return await whole(self)

    monkeypatch.setattr(Committer, "_commit", early)
    with pytest.raises(CrashMatters, match=r"the disk of table|records in customer-total"):
        crash_everywhere(scenario, "shop", points=["commit.before_produce", "commit.before_end"], disks=["kept"])


def test_a_restore_that_leaves_something_out_is_found(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TablePartition.restore

    def short(self: Any, records: Any, *rest: Any) -> None:
        whole(self, list(records)[:-1], *rest)

    plant_store(monkeypatch, restore=short)
    with pytest.raises(CrashMatters, match="is not what its changelog says"):
        crash_everywhere(scenario, "shop", points=["commit.after_store"], disks=["lost"])
