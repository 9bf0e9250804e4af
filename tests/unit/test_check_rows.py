"""The rows of `streamapp check` that a test broker cannot fail: other clusters' settings, one row each.

The rows that it can fail are in `tests/integration/test_check.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from streamapp.eos.protocol import Features
from streamapp.ops import check
from streamapp.settings import load

SOUND = {
    "transaction.state.log.replication.factor": "3",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "unclean.leader.election.enable": "false",
    "transaction.max.timeout.ms": "900000",
    "group.max.session.timeout.ms": "1800000",
    "group.min.session.timeout.ms": "6000",
}


class OldCluster:
    """A cluster whose finalized features are these."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.closed = False

    async def features(self) -> Features:
        return Features(self.version)

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_transaction_version(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = OldCluster(version)

    async def connect(*_: Any, **__: Any) -> OldCluster:
        return cluster

    monkeypatch.setattr(check, "connect", connect)
    problems = [*await check._protocol(load())]
    if version == 2:
        assert not problems
    else:
        assert f"transaction.version is {version}" in problems[0]
        assert "upgrade --feature transaction.version=2" in problems[0]
    assert cluster.closed


@pytest.mark.parametrize(
    ("brokers", "changed", "says"),
    [
        (1, {"offsets.topic.replication.factor": "1"}, None),
        (3, {}, None),
        (3, {"offsets.topic.replication.factor": "1"}, "offsets.topic.replication.factor=1 with 3 brokers"),
        (3, {"transaction.state.log.replication.factor": "2"}, "Set it to 3"),
        (2, {"transaction.state.log.replication.factor": "1"}, "Set it to 2"),
        (3, {"transaction.state.log.min.isr": "1"}, "acknowledged by one broker alone. Set it to 2"),
    ],
)
def test_copies_of_the_brokers_own_topics(brokers: int, changed: Mapping[str, str], says: str | None) -> None:
    problems = [*check._own_topics(brokers, {**SOUND, **changed})]
    assert len(problems) == (says is not None)
    assert says is None or says in problems[0]


def test_an_election_that_loses_what_was_committed() -> None:
    assert not [*check._elections(SOUND)]
    (problem,) = check._elections({**SOUND, "unclean.leader.election.enable": "true"})
    assert "Set it to false" in problem


@pytest.mark.parametrize(
    ("setting", "limit_ms", "says"),
    [
        ("transaction.max.timeout.ms", "5000", "TRANSACTION_TIMEOUT=10 s is above the brokers' transaction.max"),
        ("group.max.session.timeout.ms", "9000", "SESSION_TIMEOUT=10 s is above the brokers' group.max"),
        ("group.min.session.timeout.ms", "11000", "SESSION_TIMEOUT=10 s is below the brokers' group.min"),
    ],
)
def test_time_outs_against_the_brokers(setting: str, limit_ms: str, says: str) -> None:
    assert not [*check._timeouts(load(), SOUND)]
    (problem,) = check._timeouts(load(), {**SOUND, setting: limit_ms})
    assert says in problem
