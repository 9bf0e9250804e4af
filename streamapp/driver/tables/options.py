"""Options of Faust's tables that cannot be kept exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Options of a table that cannot be kept, and what to use instead.
_REFUSED = {
    "changelog_topic": "leave it out; the changelog is <app id>-<table>-changelog",
    "extra_topic_configs": "alter the changelog topic with Kafka's kafka-configs.sh",
    "is_global": "look rows up where they are: group_by() the events to the table's key",
    "on_changelog_event": "decide in the agent that writes the row",
    "on_window_close": "send the windows to a topic, .upsert_to(topic, final_only=True), and read it with an agent",
    "options": "leave it out; the store has settings of its own",
    "synchronize_all_active_partitions": "look rows up where they are: group_by() the events to the table's key",
    "use_partitioner": "write rows of the event's own partition, and group_by() the key first",
}


def problems(options: Mapping[str, Any]) -> Iterator[str]:
    """What of a table's options cannot be kept, each with what to use instead."""
    name = options.get("name")
    for option, instead in _REFUSED.items():
        if options.get(option):
            yield f"Table {name}: {option} is not possible exactly once. Instead: {instead}."
    if store := options.get("store"):
        yield (
            f"Table {name}: store={str(store)!r} would be written before the commit. Leave it out; STREAMAPP_STORE "
            "chooses between rocksdict and memory."
        )
