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
#: Seconds between two equal lines of a client library: the first pause and the longest.
_REPEAT_AFTER_S, _REPEAT_AFTER_MAX_S = 2.0, 60.0
#: Most lines remembered; more different ones than this are no repetition.
_REPEATS_KEPT = 200


class Repeats(logging.Filter):
    """Says a line of aiokafka's again only after a pause, which doubles: without a broker it says ten a second."""

    def __init__(self) -> None:
        super().__init__()
        #: Line -> (when it was said last, the pause after it, how often it was kept back since).
        self._said: dict[str, tuple[float, float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("aiokafka"):
            return True
        line = record.getMessage()
        said_at, pause_s, kept_back = self._said.get(line, (0.0, _REPEAT_AFTER_S, 0))
        silent_s = abs(record.created - said_at)
        if silent_s < pause_s:
            self._said[line] = said_at, pause_s, kept_back + 1
            return False
        if silent_s > 2 * _REPEAT_AFTER_MAX_S:  # another trouble than the last time
            pause_s, kept_back = _REPEAT_AFTER_S / 2, 0
        if kept_back:
            record.msg, record.args = "%s (%d times more since)", (line, kept_back)
        if len(self._said) >= _REPEATS_KEPT:
            self._said.clear()
        self._said[line] = record.created, min(pause_s * 2, _REPEAT_AFTER_MAX_S), 0
        return True


def configure(log_format: LogFormat = "console", level: int | str = logging.INFO) -> None:
    """Route every log record through one handler on standard error. May be called again; the last call wins."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format))
    handler.addFilter(Repeats())
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
