"""Everything the service writes for a seed, as a digest: printed by two processes, one compiled and one not.

python tests/support/twin.py SEED
"""

from __future__ import annotations

import hashlib
import random
import sys

from streamapp import native
from streamapp.testing import Bench
from streamapp.testing.broker import MemoryBroker

ACCOUNTS = ("ann", "bob", "cid", "dan", "@world")


def feed(app: Bench, seed: random.Random, count: int) -> None:
    """Transfers, some of them twice, some refused and some no transfers at all, with crashes in between."""
    for number in range(count):
        sender, receiver = seed.sample(ACCOUNTS, 2)
        transfer = {
            "event_id": str(number - seed.choice([0, 0, 0, 1])), "from_account": sender, "to_account": receiver,
            "amount": seed.choice([5, 50, 500, -1, "much"]), "currency": "EUR", "occurred_at": "2026-01-01T00:00:00Z",
        }  # fmt: skip
        app.feed("transfer", transfer, key=seed.choice([sender, sender, sender, "elsewhere"]))
        if number % 20 == 19:
            app.crash_at(seed.choice(["commit.before_changelog", "commit.before_end", "commit.after_store"]))
            app.settle()


def digest(broker: MemoryBroker) -> str:
    """Of every batch of every partition, byte by byte, the aborted ones and the markers included."""
    told = hashlib.sha256()
    for partition, log in sorted(broker.logs.items()):
        for it in log.batches:
            told.update(repr((partition, it.base_offset, it.payload, it.epoch, it.committed, it.aborted)).encode())
    return told.hexdigest()


if __name__ == "__main__":
    with Bench(seed=int(sys.argv[1])) as bench:
        feed(bench, random.Random(int(sys.argv[1])), 120)
        bench.settle()
        print("Python" if native.reason else "compiled", digest(bench.broker))
