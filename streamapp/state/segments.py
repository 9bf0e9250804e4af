"""Retention by append time: keys live in segments of time that are dropped whole. Arithmetic only, no clock.

A segment is named by its end: every key in it was written when no event of an append time at or beyond that end
had been seen. So a key's append time is below the end of its segment, and a segment whose end is not above
`oldest append time still to come - retention` holds only keys older than the retention. Being named by an
absolute time it keeps that promise when the retention setting changes.

A segment is half a retention long: at most three are alive, a key is kept for one to one and a half retentions,
and nothing is done per key to forget it.
"""

from __future__ import annotations

#: The only segment of a partition without retention; its end never comes.
FOREVER = 1 << 62


def segment_length_s(retention_s: int) -> int:
    """Half the retention, rounded up to a second."""
    return max(1, -(-retention_s // 2))


def segment_end_s(append_time_s: int, retention_s: int) -> int:
    """The end of the segment that a key of this append time is written to."""
    length_s = segment_length_s(retention_s)
    return (append_time_s // length_s + 1) * length_s


def is_expired(end_s: int, oldest_s: int, retention_s: int) -> bool:
    """Whether every key below `end_s` is older than the retention for every event from `oldest_s` on."""
    return end_s <= oldest_s - retention_s
