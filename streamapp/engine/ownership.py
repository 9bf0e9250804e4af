"""What a worker owns at the moment: its tasks, and how far each of their inputs is committed."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamapp.engine.environment import Consumer
from streamapp.engine.task import Task
from streamapp.eos.protocol import Membership
from streamapp.types import Partition


@dataclass(eq=False)
class Ownership:
    """Filled by each assignment, emptied by each revocation. Shared by the engine and its committer."""

    #: The seat in the group that guards the commits; None: nothing is owned.
    membership: Membership | None = None
    tasks: list[Task] = field(default_factory=list)
    #: The task of each owned input partition; several partitions share one.
    tasks_by_input: dict[Partition, Task] = field(default_factory=dict)
    #: The next offset to read of each owned input partition, as it is committed.
    committed: dict[Partition, int] = field(default_factory=dict)
    #: Table name -> its changelog topic.
    changelogs: dict[str, str] = field(default_factory=dict)
    #: Who fetches.
    consumer: Consumer | None = None

    def take(self, membership: Membership, tasks: list[Task]) -> None:
        """These tasks are ready, with their tables and the offsets they begin at."""
        self.membership = membership
        self.tasks = tasks
        self.tasks_by_input = {partition: task for task in tasks for partition in task.inputs}
        self.committed = {partition: it.offset for task in tasks for partition, it in task.inputs.items()}

    def release(self) -> None:
        """Nothing is owned any more."""
        self.membership = None
        self.tasks = []
        self.tasks_by_input = {}
        self.committed = {}
