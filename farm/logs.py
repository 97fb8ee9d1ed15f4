"""Logs: what farmd and farm-node write to standard error, and how much is kept of an attempt's."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict

from farm.outside_text import hidden, shown_lines

LOG = "log"
"""Name of the artifact that is an attempt's log."""

MAX_LOG_BYTES = 1 << 20
"""Most bytes that are kept of an attempt's log: its head and its tail."""

SEEN_BYTES = 1 << 12
"""So many of the last bytes that somebody has seen of a log tell where it goes on in what is kept."""

_LAST_BYTES = 1 << 16


def rest(kept: bytes, seen: int, last: bytes) -> bytes:
    """What is left to show of a log to somebody who has seen `seen` bytes of it, the last of which are `last`.

    Where its middle was cut out meanwhile, and with it what was seen last: its end, after a line that says so.
    """
    if kept[:seen].endswith(last):
        return kept[seen:]
    found = kept.rfind(last)
    if found >= 0:
        return kept[found + len(last) :]
    return "\n[… a part was cut out of this log while it was read …]\n".encode() + kept[-_LAST_BYTES:]


def _printable(logger: object, name: str, line: EventDict) -> EventDict:
    return {key: shown_lines(value) if isinstance(value, str) else value for key, value in line.items()}


def _discreet(logger: object, name: str, line: EventDict) -> EventDict:
    return {key: _without_secrets(value) for key, value in line.items()}


def _without_secrets(value: Any) -> Any:
    match value:
        case str() | Exception() | Path():
            return hidden(value)
        case list() | tuple() | set():
            return [_without_secrets(one) for one in value]
        case dict():
            return {key: _without_secrets(one) for key, one in value.items()}
    return value


def configure_logs(level: str, format: str) -> None:
    """Sets up structlog: `level` debug, info, warning or error; `format` text or json."""
    renderer = (
        structlog.processors.JSONRenderer()
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            # In a log stands what others said, and how processes were started.
            _discreet,
            # JSON escapes what can't be printed; a terminal would obey it.
            *([] if format == "json" else [_printable]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: structlog.PrintLogger(cast(TextIO, _STANDARD_ERROR)),
    )


class _StandardError(io.TextIOBase):
    """Standard error as it is at each line: a program that calls farmctl's commands may have replaced it meanwhile.

    What can't be written there, because its disk is full or nobody reads it any more, is no reason to fail.
    """

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


_STANDARD_ERROR = _StandardError()
