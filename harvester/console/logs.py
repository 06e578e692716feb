"""Where log events go: to standard error, as text lines or as one JSON object a line, never with the MD5 code.

Libraries that log with the standard library end up in the same place. A traceback is cut down to its error unless
HARVESTER_DEBUG is set. A standard error that can't be written to (a closed pipe, a full disk) fails no harvest.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

import structlog

from harvester.console.exits import debugging, tell
from harvester.console.secrecy import redacted
from harvester.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS = ("debug", "info", "warning", "error", "critical")


class _Sink:
    """The end of structlog's chain: hands finished lines to a function."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def msg(self, line: str) -> None:
        self._write(line)

    debug = info = warn = warning = error = err = exception = critical = fatal = failure = msg


class _Bridge(logging.Handler):
    """Hands records of the standard library's logging to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name, exc_info=error or False)


def level(default: str) -> str:
    """The level that HARVESTER_LOG_LEVEL asks for. Raises UsageError."""
    asked = os.environ.get("HARVESTER_LOG_LEVEL", "").strip().lower() or default
    if asked not in LEVELS:
        raise UsageError(f"HARVESTER_LOG_LEVEL is one of {', '.join(LEVELS)}, not {asked!r}")
    return asked


def redact(_logger: WrappedLogger, _method: str, line: Any) -> str:  # noqa: ANN401  structlog types it as an event
    """The last processor, after rendering: so it sees every way in which a value may have got into the line."""
    return redacted(str(line))


def _without_traceback(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    error = event.pop("exc_info", None)
    if isinstance(error, tuple):
        error = error[1]
    elif error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event.setdefault("error", f"{type(error).__name__}: {error}")
    return event


def _ordered(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What every line has comes first."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return {**first, **event}


def configure(form: Literal["text", "json"], least: str, write: Callable[[str], None] = tell) -> None:
    """Send events of level ``least`` and above through ``write``, a line each."""
    json = structlog.processors.JSONRenderer(ensure_ascii=False)
    text = structlog.dev.ConsoleRenderer(
        colors=False, pad_level=False, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
    )
    renderers: dict[str, list[Processor]] = {
        "json": [structlog.processors.format_exc_info, _ordered, json],
        "text": [text],
    }
    number = logging.getLevelNamesMapping()[least.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if debugging() else [_without_traceback]),
            *renderers[form],
            redact,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Sink(write),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    # Libraries are quiet below warnings: their debug lines may quote bodies, and a body holds people's addresses.
    root.setLevel(max(number, logging.WARNING))
    logging.captureWarnings(capture=True)


__all__ = ["LEVELS", "configure", "level", "redact"]
