"""How soon to fetch again. A fetch costs a worker and its broker the same, whether it brings ten records or thousands.

Where records come in one by one, every append would answer a fetch. With a pause behind each answer the next one
brings what has come meanwhile; nobody who waits for a commit anyway is kept waiting for much longer.
"""

from __future__ import annotations

#: So many bytes are plenty: their events cost many times what the fetch did.
_PLENTY_BYTES = 256 << 10
#: The pause: so many of them are a commit interval; at most, in seconds.
_PARTS, _MOST_S = 20, 0.01


def pause_s(commit_interval_s: float, byte_count: int) -> float:
    """Seconds to wait behind an answer of so many bytes: none behind plenty, and none where nothing came."""
    return min(commit_interval_s / _PARTS, _MOST_S) if 0 < byte_count < _PLENTY_BYTES else 0.0
