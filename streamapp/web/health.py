"""Whether a worker is live and whether it is ready. Pure, but for reading what the worker says of itself.

Live: the event loop turns, or nobody would answer at all, and commits are made. Not live for long: start it anew.
Ready: it has its partitions, restored, or stands by with none. Not ready: wait, and ask another one.
"""

from __future__ import annotations

from typing import Any

from streamapp.queries.views import views_of

#: A commit that is due for this many transaction time-outs will not be made by waiting.
OVERDUE_TIMEOUTS = 3


def unlive(app: Any) -> str | None:
    """Why the worker is not live, or None."""
    if app.failure is not None:
        return "the worker is ending"
    if app.engine is None:
        return None
    overdue_s, bound_s = app.engine.commits.overdue_s, OVERDUE_TIMEOUTS * app.settings.transaction_timeout
    if overdue_s > bound_s:
        return f"a commit has been due for {overdue_s:.0f} s; {bound_s:g} s are allowed"
    return None


def unready(app: Any) -> str | None:
    """Why the worker is not ready, or None."""
    if app.failure is not None:
        return "the worker is ending"
    views = views_of(app)
    return "the worker is starting or has stopped" if views is None else views.unready


def letters(app: Any) -> str:
    """A line for each topic and kind of dead letters since the start; no reason not to be ready, but to look."""
    counts = {} if app.engine is None else app.engine.letters.counts
    return "".join(f"dead letters of {topic}: {count} {kind}\n" for (topic, kind), count in sorted(counts.items()))
