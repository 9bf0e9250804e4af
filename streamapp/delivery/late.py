"""Late records: what came for windows that are closed, in `<topic>-late`, with the windows and the watermark.

A record that was too late for some of its windows counts in the others and is here once for each table.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamapp.clock import format_rfc3339
from streamapp.delivery.side_output import SideOutput, Source, set_aside

SUFFIX = "-late"
#: Windows that the header lists; of more it says how many there are.
LISTED_MAX = 100


def late_record(
    source: Source, table: str, windows: Iterable[tuple[int, int]], watermark: int, *, size_max: int
) -> SideOutput:
    """`source` with the closed `windows` (milliseconds, `[start, end)`) of `table`, and the watermark they met."""
    listed = [f"{format_rfc3339(start / 1000)}/{format_rfc3339(end / 1000)}" for start, end in windows]
    shown = ",".join(listed[:LISTED_MAX])
    if len(listed) > LISTED_MAX:
        shown += f" and {len(listed) - LISTED_MAX} more"
    facts = (("table", table), ("windows", shown), ("watermark", format_rfc3339(watermark / 1000)))
    return set_aside(source, SUFFIX[1:], facts, size_max=size_max)
