"""Whose stamps a topic has: an inbox and windows need the broker's, or a word that they are the senders'."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def problems(
    unstamped: Iterable[str],
    *,
    inboxes: Collection[str],
    windows: Collection[str],
    changelogs: Collection[str],
    declared: Collection[str],
) -> list[str]:
    """What is refused of the topics without append time (`message.timestamp.type=CreateTime`), each with its remedy.

    `inboxes`, `windows`: topics whose events have them. `changelogs`: those of marks, whose age restores go by.
    `declared`: topics whose stamps are declared to be the senders'.
    """
    found = []
    for topic in unstamped:
        uses = [name for name, topics in (("an inbox", inboxes), ("windows", windows)) if topic in topics]
        if topic in changelogs:
            found.append(
                f"{topic} has its senders' stamps (message.timestamp.type=CreateTime), and marks are kept by its "
                f"append time. Run {command(topic)}"
            )
        elif uses and topic not in declared:
            found.append(
                f"{topic} has its senders' stamps (message.timestamp.type=CreateTime), and its events have "
                f"{' and '.join(uses)}: a sender's clock would decide what is forgotten and what is late. "
                f"Run {command(topic)} or, if the stamps are to stay, declare "
                f'app.topic({topic!r}, timestamps="sender"): ages then count from when a worker has got the record.'
            )
    return found


def command(topic: str) -> str:
    """What gives a topic append time; records that are there keep their stamps."""
    return (
        f"kafka-configs.sh --bootstrap-server BROKER --alter --entity-type topics --entity-name {topic} "
        "--add-config message.timestamp.type=LogAppendTime"
    )
