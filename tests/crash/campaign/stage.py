"""Where a campaign of many minutes is fired: a broker of its own, a directory, and a bar that says how far it is."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from campaign.cluster import Cluster
from streamapp.embedded.kafka import Kafka


class Stage(NamedTuple):
    """See the module."""

    cluster: Cluster
    #: The broker's own directory of logs.
    logs: Path
    directory: Path
    console: Console
    progress: Progress
    bar: TaskID

    def tell(self, **how_far: Any) -> None:
        """Move the bar: `completed`, `total`, `description`, `advance`."""
        self.progress.update(self.bar, **how_far)

    def note(self, text: str) -> None:
        """A line above the bar."""
        self.console.print(text, markup=False, highlight=False)


@contextmanager
def stage(name: str, total: int) -> Iterator[Stage]:
    """One for as long as the `with` lasts; its files stay."""
    console = Console(stderr=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    kafka = Kafka(directory / "kafka", port=0, die_with_parent=True)
    kafka.start()
    cluster = Cluster(kafka.bootstrap)
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task(name, total=total)
            yield Stage(cluster, kafka.nodes[0].directory / "data", directory, console, progress, bar)
    finally:
        cluster.close()
        kafka.kill()


def circumstances(*libraries: str) -> str:
    """When and on what, for a report."""
    versions = [f"{name} {metadata.version(name)}" for name in ("streamapp", *libraries)]
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {', '.join(versions)}, "
        "embedded Kafka, one node"
    )
