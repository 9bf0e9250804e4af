"""Retention by append time: keys lie in segments of time, and a segment is dropped as a whole. No clock, no I/O.

A segment is named by its end. It contains only keys that were written before the first event whose append time is at
or beyond that end. So the append time of a key is below the end of its segment. A segment whose end is not above
`oldest append time still to come - retention` contains only keys that are older than the retention. The name is an
absolute time, so this stays true when the retention setting changes.

A segment is half a retention long. At most three are alive, a key is kept for 1 to 1.5 retentions, and forgetting a
key costs nothing.
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
