"""The private names of Faust, mode and aiokafka that `driver/` reads or overrides, in one place.

Versions are pinned; `tests/integration/test_agents_seams.py` fails when a name has moved, when one is used that is not
listed here, and when one is listed that nobody uses. Those of `eos/` are in `client/cluster.py` and `client/wire.py`.
"""

from __future__ import annotations

VERSIONS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

#: "module:Class" or "module" -> names read or overridden there.
SEAMS: dict[str, tuple[str, ...]] = {
    # Read, and begun again without a supervisor.
    "faust.agents.agent": ("_current_agent",),
    "faust.agents.agent:Agent": (
        "_actor_by_partition",
        "_execute_actor",
        "_on_error",
        "_slurp",
    ),
    # The URL in what a member says of itself.
    "faust.assignor.partition_assignor:PartitionAssignor": ("_url",),
    # Where Faust calls the app.
    "faust.app.base:App": (
        "_app_tasks",
        "_consumer",
        "_create_directories",
        "_discovery_modules",
        "_extra_services",
        "_on_agent_error",
        "_on_autodiscovery_error",
        "_update_assignment",
    ),
    # The registry of what agents read; delivering is the tasks'.
    "faust.transport.conductor:Conductor": (
        "_resubscribe_sleep_lock_seconds",
        "_tp_index",
        "_update_callback_map",
    ),
    "faust.streams": ("_current_event",),
    "faust.streams:Stream": (
        "_channel_stop_iteration",
        "_enable_passive",
        "_finalized",
        "_format_key",
        "_join",
        "_next",
        "_prev",
        "_processors",
    ),
    # Faust's own sends, outside of events, to a topic with another partitioner.
    "faust.topics:Topic": ("_get_producer", "_topic_name_or_default"),
    "faust.transport.drivers.aiokafka:Producer": ("_ensure_producer",),
    "faust.tables.base:Collection": ("_changelog_topic_name",),
    "faust.tables.manager:TableManager": ("_tables_finalized", "_tables_registered"),
    # The seat, and how far a partition is read.
    "aiokafka.consumer.consumer:AIOKafkaConsumer": ("_client", "_coordinator", "_fetcher", "_subscription"),
    # What was fetched, and how it becomes records.
    "aiokafka.consumer.fetcher:Fetcher": (
        "_max_partition_fetch_bytes",
        "_notify",
        "_proc_fetch_request",
        "_records",
        "_wait_consume_future",
    ),
    "aiokafka.consumer.fetcher:FetchResult": ("_backoff", "_partition_records"),
    "aiokafka.consumer.fetcher:PartitionRecords": (
        "_aborted_transactions",
        "_check_crcs",
        "_consumer_record",
        "_isolation_level",
        "_records",
        "_records_iterator",
        "_tp",
        "_unpack_records",
    ),
    "aiokafka.consumer.group_coordinator:GroupCoordinator": ("generation", "group_id", "member_id", "request_rejoin"),
    "aiokafka.consumer.subscription_state:SubscriptionState": ("assign_from_subscribed", "subscription"),
    "aiokafka.consumer.subscription_state:Assignment": ("state_value", "tps"),
    "aiokafka.consumer.subscription_state:TopicPartitionState": ("has_valid_position", "position"),
}
