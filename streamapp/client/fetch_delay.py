"""How soon to fetch again. A fetch costs a worker and its broker the same, whether it brings ten records or thousands.

    last commit ───────────────────────────────────▶ next one due
    fetch ─pause─ fetch ─pause─ fetch ─pause─ fetch fetch fetch

Where records come in one by one, every append would answer a fetch. With a pause behind each answer the next one
brings what has come meanwhile, and whoever waits for the commit anyway waits no longer. Shortly before it is due there
is no pause: what comes in then goes with this commit, and not with the one an interval later.
"""

from __future__ import annotations

#: So many bytes are plenty: their events cost many times what the fetch did.
_PLENTY_BYTES = 256 << 10
#: The pause: so many of them are a commit interval; at most, in seconds. None is taken as long before the commit.
_PARTS, _MOST_S = 10, 0.01


def pause_s(commit_interval_s: float, byte_count: int, due_in_s: float) -> float:
    """Seconds to wait behind an answer of so many bytes: none behind plenty, and none where nothing came.

    `due_in_s`: until a commit is due; infinite while none is, and below 0 where it waits for the one in flight.
    """
    if not 0 < byte_count < _PLENTY_BYTES:
        return 0.0
    pause = min(commit_interval_s / _PARTS, _MOST_S)
    return min(pause, max(0.0, due_in_s - pause))
