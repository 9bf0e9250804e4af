"""A program deployed on a place: its group, topics, directory and variables; gone without a trace afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Self

from bench.peers.catalogue import Peer
from bench.place import Place, Progress
from bench.process import Process


class Deployment:
    """A context manager: creates the output topic and an empty directory, and removes both. `label` makes it unique."""

    def __init__(self, place: Place, peer: Peer, label: str, directory: Path, source: str, partitions: int) -> None:
        self.place = place
        self.peer = peer
        self.source = source
        self.partitions = partitions
        self.group = f"bench-{peer.name}-{label}-{os.getpid()}"
        self.output = f"{self.group}-out"
        self.state = directory.resolve() / self.group
        self._directory = directory.resolve()
        self._turns = 0

    @property
    def log(self) -> Path:
        """What the program says, kept beside the results."""
        return self._directory / f"{self.peer.name}.log"

    def __enter__(self) -> Self:
        self.state.mkdir(parents=True)
        self.place.create(self.output, f"{self.group}-log", partitions=self.partitions)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.state, ignore_errors=True)
        self.place.remove(self.group)

    def turn_to(self, source: str) -> None:
        """Read another topic from here on and write a new one, as the same group on the same state."""
        self._turns += 1
        self.source = source
        self.output = f"{self.group}-out-{self._turns}"
        self.place.create(self.output, partitions=self.partitions)

    def start(self, instance: str | None = None) -> Process:
        """Start it, on the state it left; `instance` makes it a static member."""
        broker = self.place.bootstrap
        named = {"STREAMAPP_INSTANCE": instance, "BENCH_INSTANCE": instance} if instance else {}
        environment = {
            "BENCH_BROKER": broker,
            "BENCH_SOURCE": self.source,
            "BENCH_OUTPUT": self.output,
            "BENCH_CHANGELOG": f"{self.group}-log",
            "BENCH_GROUP": self.group,
            "BENCH_STATE": str(self.state),
            "STREAMAPP_BROKER": broker,
            "STREAMAPP_ID": self.group,
            "STREAMAPP_DATADIR": str(self.state),
            "STREAMAPP_PARTITIONS": str(self.partitions),
        }
        command = self.peer.command(self._directory)
        return Process(command, environment | named | self.peer.environment, self.log)

    def progress(self) -> Progress:
        """What its group has committed of its source."""
        return Progress(self.place.bootstrap, self.group, self.source, self.partitions)

    def forget_state(self) -> None:
        """Empty its directory, as a lost disk does."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.state)
        self.state.mkdir()
