"""What the app's own agent of a topic would refuse is refused where it is sent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from streamapp.testing import Bench

SHOP = """
    from typing import Annotated, Any, ClassVar
    import msgspec
    from streamapp import App

    class Leg(msgspec.Struct, frozen=True):
        KEY: ClassVar[str] = "account"
        account: str
        text: str
        amount: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

    class Tree(msgspec.Struct, frozen=True):
        KEY: ClassVar[str] = "account"
        account: str
        more: Any

    app = App("legs_shop")
    legs, trees = app.topic("legs", value_type=Leg), app.topic("trees", value_type=Tree)
    untyped = app.topic("legs")
    done = app.Table("done", default=int)
    kept = app.Table("kept", value_type=Leg).upsert_to(legs)

    @app.agent(app.topic("order"))
    async def split(stream):
        async for order in stream:
            done["debit"] += 1
            match order["do"]:
                case "good": await legs.send(key="a", value=Leg("a", "x", -(2**63)))
                case "large": await legs.send(key="a", value=Leg("a", "x" * (1 << 20), 1))
                case "integer": await legs.send(key="a", value=Leg("a", "x", 2**63))
                case "key": await legs.send(key="b", value=Leg("a", "x", 1))
                case "bytes": await legs.send(key="a", value=b'{"account":"a"}')
                case "untyped": await untyped.send(key="a", value={"account": "a"})
                case "null": await untyped.send(key="a", value=None)
                case "upsert": kept["b"] = Leg("a", "x", 1)
                case "kept": kept["a"] = Leg("a", "x", 1)
                case "soon": legs.send_soon(key="b", value=Leg("a", "x", 1))
                case "partition":
                    for number in range(2):
                        await legs.send(key="a", value=Leg("a", "x", 1), partition=number)
                case "deep":
                    deep = 1
                    for _ in range(33):
                        deep = [deep]
                    await trees.send(key="a", value=Tree("a", deep))

    @app.agent(legs)
    async def apply(stream):
        async for leg in stream:
            done["credit"] += 1

    @app.agent(trees)
    async def climb(stream):
        async for tree in stream:
            done["tree"] += 1
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "legs_shop.py").write_text(dedent(SHOP))
    monkeypatch.syspath_prepend(tmp_path)
    with Bench("legs_shop", partitions=2) as bench:
        yield bench
    sys.modules.pop("legs_shop", None)


@pytest.mark.parametrize(
    "do", ["large", "integer", "key", "bytes", "untyped", "null", "soon", "partition", "deep", "upsert"]
)
def test_it_is_the_senders_dead_letter_and_nothing_of_the_event_stays(app: Any, do: str) -> None:
    app.feed("order", {"do": do}, key="k")
    assert [letter.kind for letter in app.dead_letters("order")] == ["OutputNotAccepted"]
    assert (app.dead_letters("legs"), app.dead_letters("trees")) == ([], [])
    assert app.table("done") == {}


@pytest.mark.parametrize("do", ["good", "kept"])
def test_what_is_accepted_arrives(app: Any, do: str) -> None:
    app.feed("order", {"do": do}, key="k")
    assert app.dead_letters("order") == app.dead_letters("legs") == []
    assert sum(app.table("done").values()) == 2
