"""What happens to each request on its way: nothing, late, lost, answered into the void, or carried out twice.

The plan is asked once a call; a seed makes the same plan every time.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from streamapp.eos.protocol import Code


class Fate(NamedTuple):
    """One call. `arrivals_s`: when the request reaches the broker (none: lost; two: carried out twice).

    `answer_s`: how long the first arrival's answer takes, None: it is lost. `patience_s`: after it the client hears
    nothing any more and the connection counts as broken, though the request may still arrive.
    """

    arrivals_s: tuple[float, ...] = (0.0,)
    answer_s: float | None = 0.0
    patience_s: float = 5.0
    #: Not carried out but answered with this code, as a broker does that is moving or loading something.
    refusal: int = 0


#: Carried out and answered at once.
PLAIN = Fate()


class Faults(Protocol):
    """Decides the fate of each call by its name, such as `end_transaction` (a method of `Cluster`)."""

    def fate(self, call: str) -> Fate: ...


class NoFaults:
    """A perfect network."""

    def fate(self, call: str) -> Fate:
        return PLAIN


class ScriptedFaults:
    """Fates for single calls: the n-th call of a name (from 1) gets the fate given for it, all others are plain."""

    def __init__(self, fates: Mapping[tuple[str, int], Fate]) -> None:
        self._fates = fates
        self.calls: Counter[str] = Counter()

    def fate(self, call: str) -> Fate:
        self.calls[call] += 1
        return self._fates.get((call, self.calls[call]), PLAIN)


class Rates(NamedTuple):
    """Probability of each fault a call, and how long things take. Latency is uniform up to `latency_s`."""

    lose_request: float = 0.0
    lose_answer: float = 0.0
    delay: float = 0.0
    repeat: float = 0.0
    refuse: float = 0.0
    latency_s: float = 0.002
    #: A delayed or repeated request arrives up to so much later, behind requests sent after it.
    delay_s: float = 20.0
    patience_s: float = 5.0


_COORDINATOR = (Code.COORDINATOR_LOAD_IN_PROGRESS, Code.COORDINATOR_NOT_AVAILABLE, Code.NOT_COORDINATOR)
#: What a healthy client must live with, by call.
_REFUSALS: dict[str, tuple[int, ...]] = {
    "produce": (Code.NOT_LEADER_OR_FOLLOWER, Code.NOT_ENOUGH_REPLICAS, Code.UNKNOWN_TOPIC_OR_PARTITION),
    "commit_offsets": _COORDINATOR,
    "end_transaction": _COORDINATOR,
    "init_producer_id": (*_COORDINATOR, Code.CONCURRENT_TRANSACTIONS),
    "fetch_offsets": _COORDINATOR,
    "list_offsets": (Code.NOT_LEADER_OR_FOLLOWER,),
}
#: Calls that a network or a client may carry out late or twice to some effect.
_REPEATED = frozenset({"produce", "commit_offsets", "end_transaction", "init_producer_id"})


class SeededFaults:
    """Faults at random rates, counted by kind so that a run can show they happened."""

    def __init__(self, generator: random.Random, rates: Rates) -> None:
        self._random = generator
        self._rates = rates
        self.healed = False
        self.counts: Counter[str] = Counter()

    def heal(self) -> None:
        """From now on nothing is lost, late or repeated."""
        self.healed = True

    def fate(self, call: str) -> Fate:
        rates, chance = self._rates, self._random.random
        there, back = chance() * rates.latency_s, chance() * rates.latency_s
        if self.healed:
            return Fate((there,), back)
        draw = chance()
        # A connection often breaks at once and only sometimes stays silent until the client's time-out.
        patience_s = rates.patience_s if chance() < 0.3 else there + back
        if (draw := draw - rates.lose_request) < 0:
            self.counts[f"{call}: request lost"] += 1
            return Fate((), None, patience_s)
        if (draw := draw - rates.lose_answer) < 0:
            self.counts[f"{call}: answer lost"] += 1
            return Fate((there,), None, patience_s)
        if (draw := draw - rates.delay) < 0 and call in _REPEATED:
            self.counts[f"{call}: delayed"] += 1
            return Fate((chance() * rates.delay_s,), back, patience_s)
        if (draw := draw - rates.refuse) < 0 and call in _REFUSALS:
            self.counts[f"{call}: refused"] += 1
            return Fate((there,), back, rates.patience_s, self._random.choice(_REFUSALS[call]))
        if 0 <= draw < rates.repeat and call in _REPEATED:
            self.counts[f"{call}: repeated"] += 1
            return Fate((there, chance() * rates.delay_s), back, rates.patience_s)
        return Fate((there,), back, rates.patience_s)
