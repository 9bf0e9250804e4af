"""A worker that counts the `taps` of each key, and sends a count at most once a second (`test_limited_upserts.py`)."""

from __future__ import annotations

import sys
from typing import Any

EVERY_S = 1.0


def declare() -> Any:
    """One agent, one table."""
    from streamapp import App

    app = App(autodiscover=False)
    counts = app.Table("counts", default=int).upsert_to(app.topic("counts-now"), emit_every=EVERY_S)

    @app.agent(app.topic("taps"))
    async def count(stream: Any) -> None:
        async for event in stream.events():
            counts[event.key.decode()] += 1

    return app


def __getattr__(name: str) -> Any:
    # Made when `-A limited_worker:app` asks for it, so that the test can read the constant.
    if name != "app":
        raise AttributeError(name)
    app = globals()["app"] = declare()
    return app


if __name__ == "__main__":
    sys.argv = ["streamapp", sys.argv[1], "-A", "limited_worker:app", *sys.argv[2:]]
    from streamapp.cli.main import main

    main()
