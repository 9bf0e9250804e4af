"""Event-time windows: pure decisions over a task's ordered rows. No clock, no client, nothing awaited.

    kinds.py        which windows an instant is in
    progress.py     watermark, and up to where windows are closed
    aggregates.py   what is kept of the records of a window
    rows.py         the windows of a task as ordered rows
    book.py         a record comes: what it changes, closes and is too late for
    event_time.py   when a record happened

Names: a window is *open*, then *closed* and kept for the retention; a record is *late* behind the watermark, and
*expired* for a window that is closed.
"""

from __future__ import annotations

from streamapp.windows.aggregates import Collect, Count, Last, Max, Mean, Min, Reduce, Sum
from streamapp.windows.windowers import Window

__all__ = ["Collect", "Count", "Last", "Max", "Mean", "Min", "Reduce", "Sum", "Window"]
