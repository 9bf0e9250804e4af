"""Clients of librdkafka that write nothing on standard error, unless a test says `log_level`.

What they have to say of a broker that a test stops goes to standard error from a thread of their own, whenever it
likes: between the dots of a green run, where nobody can tell it from trouble.
"""

from __future__ import annotations

from typing import Any

import confluent_kafka
from confluent_kafka import admin, cimpl

_QUIET = {"log_level": 0}


class Consumer(cimpl.Consumer):
    """See the module."""

    def __init__(self, config: Any = None, /, **more: Any) -> None:
        super().__init__(_QUIET | (config or {}), **more)


class Producer(cimpl.Producer):
    """See the module."""

    def __init__(self, config: Any = None, /, **more: Any) -> None:
        super().__init__(_QUIET | (config or {}), **more)


def install() -> None:
    """Put them in the place of confluent-kafka's own, for what is imported from now on in this process."""
    plain = admin.AdminClient.__init__

    def quiet(self: Any, conf: Any, **more: Any) -> None:
        plain(self, _QUIET | conf, **more)

    confluent_kafka.Consumer, confluent_kafka.Producer = Consumer, Producer  # type: ignore[misc]
    admin.AdminClient.__init__ = quiet  # type: ignore[method-assign]
