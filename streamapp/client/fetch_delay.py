"""How long to wait before the next fetch. A fetch costs the same whether it brings ten records or thousands.

    last commit ───────────────────────────────────▶ next one due
    fetch ─pause─ fetch ─pause─ fetch ─pause─ fetch fetch fetch

Where records arrive one by one, every append would complete a fetch. With a delay after each response the next one
brings all records that arrived meanwhile; their effects wait for the commit anyway. Shortly before a commit is due
there is no delay: records that arrive then are still in this commit, and not one interval later.
"""

from __future__ import annotations

#: No delay after a response this large: processing it costs many times what the fetch did.
_PLENTY_BYTES = 256 << 10
#: Delay = commit interval / 10, at most 10 ms. No delay within that time before a commit is due.
_PARTS, _MOST_S = 10, 0.01


def pause_s(commit_interval_s: float, byte_count: int, due_in_s: float) -> float:
    """Seconds to wait after a response of so many bytes: 0 after a large one, and 0 if it was empty.

    `due_in_s`: until a commit is due; infinite while none is, and below 0 where it waits for the one in flight.
    """
    if not 0 < byte_count < _PLENTY_BYTES:
        return 0.0
    pause = min(commit_interval_s / _PARTS, _MOST_S)
    return min(pause, max(0.0, due_in_s - pause))
