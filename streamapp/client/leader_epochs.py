"""The leader epochs of what is fetched: where one follows the other, the log must not have been truncated between.

A leader that lacks records (an unclean election) takes new ones at offsets that were processed before. A worker that
reads on would pass over them without a word, so what a newer epoch has brought is handed over only when the leader has
said that the older one ends where the worker was, or further on (KIP-320).
"""

from __future__ import annotations

from streamapp.eos.cluster import Cluster, NoAnswer
from streamapp.eos.positions import NO_EPOCH, PositionLost
from streamapp.eos.protocol import Code
from streamapp.types import Partition


class LeaderEpochs:
    """Leader epochs of what one member fetches. One member's."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._newest: dict[Partition, int] = {}
        #: Partition -> the epoch before, and the offset at which another one was met.
        self._turned: dict[Partition, tuple[int, int]] = {}

    def newest(self, partition: Partition) -> int:
        """The epoch of what was fetched last; `NO_EPOCH` where nothing was."""
        return self._newest.get(partition, NO_EPOCH)

    def saw(self, partition: Partition, offset: int, epoch: int) -> None:
        """A fetch from this offset has brought records, the last ones of this epoch."""
        before = self._newest.get(partition)
        if before == epoch:
            return
        self._newest[partition] = epoch
        if before is not None:
            self._turned.setdefault(partition, (before, offset))

    def forget(self) -> None:
        """Partitions have changed hands."""
        self._newest.clear()
        self._turned.clear()

    @property
    def are_in_doubt(self) -> bool:
        """Whether `verify` must be asked before anything is handed over."""
        return bool(self._turned)

    async def verify(self, cluster: Cluster) -> bool:
        """Ask the leaders; False: no answer yet. Raises `PositionLost` where a log was truncated."""
        turned = dict(self._turned)
        try:
            ends = await cluster.epoch_ends({partition: epoch for partition, (epoch, _) in turned.items()})
        except NoAnswer:
            return False
        for partition, (epoch, offset) in turned.items():
            end = ends.get(partition)
            if end is None or end.error != Code.NONE:
                continue
            if 0 <= end.offset < offset:
                raise PositionLost(partition, offset, self._group)
            if self._turned.get(partition) == (epoch, offset):
                del self._turned[partition]
        return not self._turned
