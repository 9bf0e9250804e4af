"""A service whose events have a handler run after their commit; the handler writes to a file who ran it, and for what.

Environment: STREAMAPP_ settings; TELLING_IN names its topic, TELLING_FILE the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from streamapp import after_commit
from streamapp.app import App

app = App(autodiscover=False)


@app.after_commit("tell")
async def tell(payload: Any) -> None:
    """An effect outside of Kafka."""
    with Path(os.environ["TELLING_FILE"]).open("a") as file:  # noqa: ASYNC230
        file.write(f"{os.getpid()} {payload}\n")


@app.agent(app.topic(os.environ["TELLING_IN"], value_type=int))
async def book(stream: Any) -> None:
    """Each order is told."""
    async for order in stream:
        after_commit(tell, order)
