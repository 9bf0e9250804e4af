"""A worker that finds no broker in service, at each call of its start and of an assignment: it asks again."""

from __future__ import annotations

from typing import Any

import pytest

from streamapp.errors import Unavailable
from streamapp.testing.bench import Bench
from streamapp.testing.environment import MemoryEnvironment, MemoryMember

CALLS = [
    (MemoryEnvironment, "connect"),
    (MemoryEnvironment, "create_topics"),
    (MemoryMember, "subscribe"),
    (MemoryEnvironment, "changelogs"),
]
TRANSFER = {
    "event_id": "1",
    "from_account": "external:bank",
    "to_account": "ann",
    "amount": 500,
    "currency": "EUR",
    "occurred_at": "2026-01-01T00:00:00Z",
}


def refuse(patch: pytest.MonkeyPatch, owner: type, name: str, times: int) -> list[str]:
    """Have the first so many calls find nobody; what was called."""
    calls: list[str] = []
    asked = getattr(owner, name)

    async def refused(self: Any, *arguments: Any) -> Any:
        calls.append(name)
        if len(calls) <= times:
            raise Unavailable("it names no broker that is in service")
        return await asked(self, *arguments)

    patch.setattr(owner, name, refused)
    return calls


@pytest.mark.parametrize(("owner", "name"), CALLS, ids=[name for _, name in CALLS])
def test_a_call_that_finds_no_broker_is_made_again(
    owner: type, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Bench() as bench:
        bench.feed("transfer", TRANSFER)
        told = bench.records("balances")
        calls = refuse(monkeypatch, owner, name, 12)
        bench.restart(empty=True)
        assert len(calls) > 12
        assert bench.records("balances") == told
        assert bench.starts == 2, "the worker ended instead"
    assert "Still " in caplog.text
    assert "no broker that is in service" in caplog.text


@pytest.mark.parametrize(("owner", "name"), CALLS, ids=[name for _, name in CALLS])
def test_a_worker_gives_up_after_its_patience(owner: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Bench() as bench:
        bench.feed("transfer", TRANSFER)
        bench.settle()
        calls = refuse(monkeypatch, owner, name, 10_000)
        with pytest.raises(Unavailable, match=r"Gave up .* after 60\.\d s: it names no broker"):
            bench.restart(empty=True)
        assert 50 < len(calls) < 100
