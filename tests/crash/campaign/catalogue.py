"""The crash points with what it takes to reach each, and the ways to go on after one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Way(StrEnum):
    """What happens after the worker stopped at the point."""

    RESTART = "restart"  #: it is started again on its state directory
    EMPTY = "empty"  #: it is started again on an empty one
    TAKEOVER = "takeover"  #: another worker takes over
    ZOMBIE = "zombie"  #: it is frozen past its time-outs, another takes over, then it is thawed


@dataclass(frozen=True)
class Point:
    """A crash point. `hook` is the failpoint's name in the code; `nth` the range from which the seed takes the hit."""

    name: str
    what: str
    hook: str = ""
    nth: tuple[int, int] = (2, 8)
    #: The worker restores what an earlier one left, killed in the middle of its work.
    after_another: bool = False
    #: ... with an empty directory, so that there is something to restore.
    empties_first: bool = False
    #: A second worker joins, so that partitions are given up.
    needs_rebalance: bool = False
    #: SIGTERM brings the worker to the point.
    needs_sigterm: bool = False
    #: Topic settings changed while it runs, so that the broker refuses a batch.
    narrows: str = ""
    #: Seconds the process runs on behind the point, at most: the seed chooses.
    runs_on_s: float = 0.0
    #: Seconds an inbox remembers; None: the default, which no shot outlives. Then the input has no repeats.
    inbox_retention_s: int | None = None
    helpers: tuple[dict[str, Any], ...] = field(default=())

    def plan(self, way: Way, seed: random.Random) -> list[dict[str, Any]]:
        """The fault plan of one shot."""
        fault: dict[str, Any] = {
            "point": self.hook or self.name,
            "action": "stop" if way is Way.ZOMBIE else "kill",
            "nth": seed.randint(*self.nth),
        }
        if self.runs_on_s:
            fault["after_s"] = round(seed.uniform(0.0001, self.runs_on_s), 5)
        return [fault, *self.helpers]


#: An event of an agent that waits in the middle, now and then, so that a commit falls due meanwhile.
_SLOW_SEND = {"point": "send", "action": "sleep", "nth": 40, "times": 1, "seconds": 0.4}

POINTS: tuple[Point, ...] = (
    Point("fetch.before_events", "records fetched, none handed to a task", nth=(2, 12)),
    Point("event.before_effects", "an event at its agent, before any effect", nth=(20, 300)),
    Point("commit.before_changelog", "tables written in the overlay, changelog not appended"),
    Point("commit.before_produce", "outputs in batches, nothing sent"),
    Point("produce.some_acknowledged", "debit acknowledged, credit not sent", nth=(1, 4)),
    Point("produce.one_refused", "one batch of several refused", nth=(1, 1), narrows="transfer-rejected"),
    Point("commit.before_offsets", "every batch acknowledged, before the offsets"),
    Point(
        "commit.while_event_runs",
        "commit due while an event is between produce and finish",
        nth=(1, 1),
        helpers=(_SLOW_SEND,),
    ),
    Point("commit.before_end", "offsets bound, before EndTxn"),
    Point("end.request_lost", "EndTxn lost before the broker", hook="send EndTxnRequest"),
    Point("end.answer_lost", "EndTxn done, its answer lost", hook="answer EndTxnRequest"),
    Point("end.under_way", "EndTxn under way, markers maybe not written", hook="send EndTxnRequest", runs_on_s=0.003),
    Point("commit.before_store", "committed, disk not written yet"),
    Point("commit.after_store", "commit complete, before the next transaction"),
    Point("revoke.before_commit", "in the revoke, before its commit", nth=(1, 1), needs_rebalance=True),
    Point("revoke.after_commit", "in the revoke, after its commit", nth=(1, 1), needs_rebalance=True),
    Point("assign.before_offsets", "new owner: producer identified, offsets not read", nth=(1, 1), after_another=True),
    Point("assign.before_restore", "new owner: offsets read, nothing restored", nth=(1, 1), after_another=True),
    Point("restore.half_done", "in the middle of a restore", nth=(1, 2), after_another=True, empties_first=True),
    Point(
        "assign.before_fetch", "restored, before the first fetch", nth=(1, 1), after_another=True, empties_first=True
    ),
    Point("inbox.before_mark", "inbox looked up, mark not written", nth=(20, 300)),
    Point("inbox.after_mark", "inbox mark written, before any effect", nth=(20, 300)),
    Point("inbox.before_expiry", "the inbox lets go of its oldest marks", nth=(1, 1), inbox_retention_s=1),
    Point("shutdown.before_commit", "SIGTERM: draining, before the last commit", nth=(1, 1), needs_sigterm=True),
)
BY_NAME = {point.name: point for point in POINTS}
