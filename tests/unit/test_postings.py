"""Each posting has its debit and its credit, however old a repeat is and however long anything waited in a backlog."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from streamapp.delivery.inbox import Fields
from streamapp.records import BalanceEntry
from streamapp.testing import Bench
from streamapp.types import Partition

RETENTION_S = 600
TIME = "2026-01-01T00:00:00Z"


class Sender:
    """Appends records while the worker stands still, which it does until `work()`: so they wait in a backlog."""

    def __init__(self, app: Bench) -> None:
        self.app = app
        self._steps: list[Callable[[], Any]] = []
        app.settle()

    def send(self, topic: str, key: str, **value: Any) -> None:
        raw = json.dumps({**value, "occurred_at": TIME}).encode()
        self._steps.append(lambda: self.app.broker.send(Partition(topic, 0), key.encode(), raw))

    def transfer(self, event_id: str) -> None:
        self.send(
            "transfer", "@bank", event_id=event_id, from_account="@bank", to_account="ann", amount=5, currency="EUR"
        )

    def wait(self, seconds: float) -> None:
        self._steps.append(lambda: setattr(self.app.broker, "append_ahead_s", self.app.broker.append_ahead_s + seconds))

    def work(self) -> None:
        steps, self._steps = self._steps, []

        async def play() -> None:
            for step in steps:
                step()

        self.app._run(play())
        self.app.settle()


def legs(app: Bench, side: str) -> Counter[str]:
    return Counter(leg["posting"] for leg in app.outputs("balances") if leg["leg"] == side)


def assert_every_debit_has_its_credit(app: Bench) -> None:
    debits = legs(app, "debit")
    assert debits == legs(app, "credit") == Counter(dict.fromkeys(debits, 1))
    assert app.dead_letters("balances") == []
    found = app.table("balances")
    assert [found[name]["balances"]["EUR"] for name in ("@bank", "ann")] == [-5 * len(debits), 5 * len(debits)]
    assert found["ann"]["entries"] == len(debits)


def test_a_repeat_just_beyond_the_retention_of_a_transfer_that_waited() -> None:
    with Bench(inbox_retention=RETENTION_S, partitions=1) as app:
        sender = Sender(app)
        sender.transfer("t")
        sender.wait(300)  # its leg is appended so much later
        sender.work()
        sender.wait(RETENTION_S - 300 + 1)
        sender.transfer("t")  # outside the retention of the transfer, inside that of the leg
        sender.work()
        assert_every_debit_has_its_credit(app)
        assert len(legs(app, "debit")) == 2


@pytest.mark.parametrize("seed", range(6))
def test_repeats_around_the_retention_with_any_backlog(seed: int) -> None:
    rng = random.Random(seed)
    with Bench(inbox_retention=RETENTION_S, partitions=1, seed=seed) as app:
        sender = Sender(app)
        for _ in range(60):
            match rng.randrange(4):
                case 0 | 1:
                    sender.transfer(f"t{rng.randrange(3)}")
                case 2:
                    sender.wait(rng.choice((1, 100, RETENTION_S - 1, RETENTION_S, RETENTION_S + 1)))
                case _:
                    sender.work()
        sender.work()
        assert_every_debit_has_its_credit(app)


def entry(event_id: str, posting: str | None, counterparty: str = "@bank") -> dict[str, Any]:
    made = {
        "event_id": event_id, "transfer_id": event_id.split(":")[0], "leg": "credit", "account": "ann",
        "counterparty": counterparty, "amount": 5, "currency": "EUR",
    }  # fmt: skip
    return made if posting is None else {**made, "posting": posting}


def test_a_leg_from_before_there_were_postings_is_known_by_its_mark_from_before() -> None:
    with Bench(inbox_retention=RETENTION_S, partitions=1) as app:
        sender = Sender(app)
        for posting in (None, None, "0-3", "0-3", "0-4"):
            sender.send("balances", "ann", **entry("t:credit", posting))
        sender.send("balances", "ann", **entry("t:credit", None, "@other"))
        sender.work()
        assert app.table("balances")["ann"]["entries"] == 4
        agent = "agents.transfers.agent.apply_credits"
        assert {tuple(json.loads(key)) for key in app.on_disk("inbox")} == {
            (agent, "ann", "t:credit", "@bank"),  # as it was written before
            (agent, "ann", "t:credit", "@bank", "0-3"),
            (agent, "ann", "t:credit", "@bank", "0-4"),
            (agent, "ann", "t:credit", "@other"),
        }


def test_the_content_of_a_leg_without_a_posting_is_hashed_as_it_was() -> None:
    """The hash was taken with the code that had no postings."""
    leg = BalanceEntry("t:credit", TIME, "t", "credit", "ann", "@bank", 5, "EUR")
    assert Fields("event_id").hash_of(leg).hex() == "097f3f32db4ed9bdbc033edba0a8e25c"
    assert Fields("event_id").hash_of(msgspec.structs.replace(leg, posting="0-3")) != Fields("event_id").hash_of(leg)
