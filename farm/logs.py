"""Logs: what farmd and farm-node write to standard error, and how much is kept of an attempt's."""

from __future__ import annotations

import logging
import sys

import structlog

LOG = "log"
"""Name of the artifact that is an attempt's log."""

MAX_LOG_BYTES = 1 << 20
"""Most bytes that are kept of an attempt's log: its head and its tail."""


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
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
