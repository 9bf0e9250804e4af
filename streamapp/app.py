"""`App`: a Faust app with our topics, tables and settings, and `app`, the one this service runs on.

faust -A streamapp.app worker -l info
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from streamapp import settings as settings_
from streamapp.codec import Codec
from streamapp.driver.app import SCHEME, EngineApp
from streamapp.driver.assignor import Assignor
from streamapp.driver.discovery import OF_THE_SERVICE
from streamapp.driver.options import adopt
from streamapp.driver.streams.agent import Agent
from streamapp.driver.streams.event import ContextEvent
from streamapp.driver.streams.schema import RecordSchema
from streamapp.driver.streams.stream import Stream
from streamapp.driver.streams.topic import Topic
from streamapp.driver.tables.registry import TableManager
from streamapp.driver.tables.table import Table
from streamapp.eos.partitioner import PARTITIONERS
from streamapp.errors import ConfigurationError

if TYPE_CHECKING:
    app: App


class App(EngineApp):
    """A Faust app that is configured by `STREAMAPP_` settings; any Faust option given here wins over them.

    Raises `ConfigurationError` with every problem of the settings. What is declared and cannot be done exactly once
    is refused when the worker starts, all at once.
    """

    def __init__(self, id: str | None = None, *, settings: settings_.Settings | None = None, **options: Any) -> None:
        adopted = adopt(options, _CLASSES)
        if settings is None or adopted.settings:
            given = {"id": id} if settings is None else settings.model_dump()
            settings = settings_.load(**(given | adopted.settings))
        self.settings = settings
        #: Topics named in this app, with the partition count asked for; the worker creates missing ones.
        self.declared_topics: dict[str, int | None] = {}
        #: Topics declared to keep their senders' stamps.
        self.sender_stamped: set[str] = set()
        self.partitioners = {}
        super().__init__(self.settings.id, **{**_faust_options(self.settings), **adopted.options})
        self.refusals += adopted.problems
        self._says_what_to_discover = "autodiscover" in adopted.options

    def topic(
        self,
        *topics: str,
        value_type: Any = None,
        schema: Any = None,
        timestamps: Literal["append", "sender"] = "append",
        partitioner: str | None = None,
        **options: Any,
    ) -> Any:
        """A topic. `value_type` may be a `msgspec.Struct`, whose bad records then go to `<topic>-dlt`.

        `timestamps="sender"`: the topic keeps its senders' stamps (`message.timestamp.type=CreateTime`). An inbox or a
        window of its events is refused unless this says so, and then goes by when a worker has got the record.

        `partitioner`: that of all senders of the topic, where it is not Kafka's default `murmur2_random`, by its name
        in librdkafka: `consistent_random` is what confluent-kafka, Go, .NET and node use unless told otherwise. This
        app's own records for the topic are placed by it, too.
        """
        if partitioner is not None:
            self._declare_partitioner(topics, partitioner)
        if timestamps == "sender":
            self.sender_stamped.update(topics)
        elif timestamps != "append":
            raise ConfigurationError(f'timestamps={timestamps!r} of {topics[0]}: it is "append" or "sender".')
        if isinstance(value_type, type) and issubclass(value_type, msgspec.Struct):
            schema = RecordSchema(Codec(value_type))
            value_type = None
        self.declared_topics.update(dict.fromkeys(topics, options.get("partitions")))
        return super().topic(*topics, value_type=value_type, schema=schema, **options)

    def _declare_partitioner(self, topics: tuple[str, ...], name: str) -> None:
        """Of topics. Raises `ConfigurationError` for an unknown name, and while a worker runs."""
        declared = PARTITIONERS.get(name)
        if declared is None:
            known = ", ".join(PARTITIONERS)
            raise ConfigurationError(f"partitioner={name!r} of {topics[0]}: it is one of {known}.")
        for topic in topics:
            if self.engine is not None and topic not in self.partitioners:
                raise ConfigurationError(
                    f"The partitioner of {topic} is declared while the worker runs, which went on without it so far. "
                    f"Write app.topic({topic!r}, partitioner={name!r}) beside the agents."
                )
            first = self.partitioners.setdefault(topic, declared)
            if first is not declared:
                self.refuse(
                    f"{topic} is declared with partitioner={first.name!r} and with partitioner={name!r}. All senders "
                    "of a topic use one: declare that one."
                )


def use(app: App) -> App:
    """Make `app` the service's app, which finds its agents and tables; call it before anything imports one."""
    app.is_the_service = True
    if not app._says_what_to_discover:
        app.conf.autodiscover = list(OF_THE_SERVICE)
    globals()["app"] = app
    return app


def _faust_options(settings: settings_.Settings) -> dict[str, Any]:
    """Faust's own settings, from ours."""
    brokers = ";".join(f"{SCHEME}://{server}" for server in settings.broker.split(","))
    return {
        "broker": brokers,
        "broker_commit_interval": settings.commit_interval,
        "broker_session_timeout": settings.session_timeout,
        "broker_heartbeat_interval": settings.session_timeout / 4,
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": settings.instance,
        # Faust's own exactly-once code stays off: the guarantee is the engine's.
        "processing_guarantee": "at_least_once",
        "store": "memory://",
        "topic_partitions": settings.partitions,
        "topic_replication_factor": settings.replication_factor or 1,
        "topic_disable_leader": True,
        "web_enabled": False,
        "table_standby_replicas": 0,
        **_CLASSES,
    }


#: The classes of ours that Faust makes its objects of.
_CLASSES: dict[str, type] = {
    "Agent": Agent,
    "Event": ContextEvent,
    "Topic": Topic,
    "Table": Table,
    "Stream": Stream,
    "TableManager": TableManager,
    "PartitionAssignor": Assignor,
}


def __getattr__(name: str) -> Any:
    # The service's app is made when it is first asked for, so that `from streamapp import App` reads no settings.
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return use(App())
