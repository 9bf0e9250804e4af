"""Logging for people and for machines: one line an event, on standard error, never a payload.

`console` colours only when standard error is a terminal; `json` writes one object a line with the keys
`timestamp`, `level`, `logger`, `message` and whatever was passed as `extra={"...": ...}`. Faust's, aiokafka's
and our own loggers all pass through here.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

LogFormat = Literal["console", "json"]

#: Loggers that say at INFO what a user of ours need not read.
_CHATTY = ("aiokafka", "faust", "mode", "asyncio")


def configure(log_format: LogFormat = "console", level: int | str = logging.INFO) -> None:
    """Route every log record through one handler on standard error. May be called again; the last call wins."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format))
    root.addHandler(handler)
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, _number(level)))


def _number(level: int | str) -> int:
    return level if isinstance(level, int) else int(logging.getLevelName(level.upper()))


def _formatter(log_format: LogFormat) -> logging.Formatter:
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        final += [
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(sort_keys=True),
        ]
    else:
        # Never rich tracebacks: they print local variables, and with them payloads and passwords.
        plain = structlog.dev.plain_traceback
        final += [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain, pad_event_to=0)]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final)
