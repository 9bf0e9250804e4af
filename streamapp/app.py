"""`App`: a Faust app with our topics, tables and settings, and `app`, the one this service runs on.

faust -A streamapp.app worker -l info
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
import msgspec

from streamapp import settings as settings_
from streamapp.codec import Codec
from streamapp.driver import at_least_once
from streamapp.driver.schema import Partitioner, RecordSchema
from streamapp.errors import ConfigurationError

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    app: App


class App(faust.App):
    """A Faust app that is configured by `STREAMAPP_` settings; any Faust option given here wins over them.

    Raises `ConfigurationError` with every problem of the settings.
    """

    #: Where mode's life-cycle lines go, so that they are as quiet as Faust's own.
    logger = logging.getLogger("faust.app")

    def __init__(self, id: str | None = None, *, settings: settings_.Settings | None = None, **options: Any) -> None:
        self.settings = settings or settings_.load(id=id)
        self._partition_of = Partitioner()
        super().__init__(self.settings.id, **{**_faust_options(self.settings), **options})

    def topic(self, *topics: str, value_type: Any = None, schema: Any = None, **options: Any) -> Any:
        """A topic. `value_type` may be a `msgspec.Struct`, whose bad records then go to `<topic>-dlt`."""
        if isinstance(value_type, type) and issubclass(value_type, msgspec.Struct):
            schema = RecordSchema(Codec(value_type), self._partition_of)
            value_type = None
        return super().topic(*topics, value_type=value_type, schema=schema, **options)

    def partition_count(self, topic: str) -> int:
        """How many partitions a topic has, as the consumer knows it."""
        return len(self.consumer._thread._consumer.partitions_for_topic(topic) or ()) or self.conf.topic_partitions

    async def on_first_start(self) -> None:
        """Make the directory of the tables, and say once what is promised."""
        _make_directory(self.settings.state_directory)
        await super().on_first_start()
        logger.info("processing at least once: after a crash, what was not committed is processed again")


def use(app: App) -> App:
    """Make `app` the service's app; call it before anything imports an agent or a table."""
    globals()["app"] = app
    return app


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigurationError(
            f"The state directory {path} cannot be made: {exc.strerror}. Point STREAMAPP_DATADIR at one that can be."
        ) from None


def _faust_options(settings: settings_.Settings) -> dict[str, Any]:
    """Faust's own settings, from ours."""
    brokers = ";".join(f"kafka://{server}" for server in settings.broker.split(","))
    return {
        "broker": brokers,
        "broker_commit_interval": settings.commit_interval,
        "broker_session_timeout": settings.session_timeout,
        "broker_heartbeat_interval": settings.session_timeout / 4,
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": settings.instance,
        "datadir": str(settings.state_directory),
        "processing_guarantee": "at_least_once",
        "store": "memory://" if settings.store == "memory" else "rocksdb://?driver=rocksdict",
        "topic_partitions": settings.partitions,
        "topic_replication_factor": settings.replication_factor or 1,
        "topic_disable_leader": True,
        "web_enabled": False,
        "autodiscover": ["agents", "tables"],
        "Topic": at_least_once.Topic,
        "Table": at_least_once.Table,
    }


def __getattr__(name: str) -> Any:
    # The service's app is made when it is first asked for, so that `from streamapp import App` reads no settings.
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return use(App())
