"""Sets up the logs of the farm's processes, and finds the part of an attempt's log that a reader hasn't seen.

farmd, bridge, farm-node, renderer and Ray's launchers write lines in the same format: text or JSON. The lines have the
same fields: `process` (the process that writes the line), `job`, `task`, `attempt`, `epoch`, `node`, `device`, and
`request` (the id of a client's call).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from farm.damaged_files import DamagedFile
from farm.log_file import FILE_VARIABLE, LogFile, is_at
from farm.outside_text import hidden, shown_lines

LOG = "log"
"""Name of the artifact that is an attempt's log."""

MAX_LOG_BYTES = 1 << 20
"""Most bytes that are kept of an attempt's log: its head and its tail."""

SEEN_BYTES = 1 << 12
"""So many of the last bytes that somebody has seen of a log tell where it goes on in what is kept."""

_LAST_BYTES = 1 << 16

_LEVEL, _FORMAT = "LTX_FARM_LOG_LEVEL", "LTX_FARM_LOG_FORMAT"


def rest(kept: bytes, seen: int, last: bytes) -> bytes:
    """Return the part of a log that its reader hasn't seen yet.

    The farm cuts out the middle of a log that grows too long. If the place at which the reader stopped was cut out too,
    the result is a line that says that a part was cut out, followed by the end of the log.

    Args:
        kept: The log as it is stored now.
        seen: The number of bytes that the reader has seen.
        last: The last few bytes that the reader has seen.
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


def variables(level: str, format: str) -> dict[str, str]:
    """Return environment variables from which a child process sets up its log (see `configure_as_told`).

    Args:
        level: The lowest level that is written, such as "info".
        format: text or json.
    """
    return {_LEVEL: level, _FORMAT: format}


def variables_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return only those variables of `environ` that set the level and the format of logs (see `variables`)."""
    return {name: environ[name] for name in (_LEVEL, _FORMAT) if name in environ}


def configure_as_told(process: str, **more: Any) -> None:
    """Set up the log of this process, with the level and format that its parent process put into the environment.

    Args:
        process: The name of this process, such as "renderer".
        more: Further arguments of `configure_logs`.
    """
    configure_logs(os.environ.get(_LEVEL, "info"), os.environ.get(_FORMAT, "text"), process, **more)


def configure_logs(
    level: str, format: str, process: str, *, file: Path | None = None, libraries: bool = True, **bound: str
) -> None:
    """Set up the log of this process.

    Args:
        level: The lowest level at which the farm's own lines are written: debug, info, warning or error.
        format: text or json.
        process: The name of this process: farmd, bridge, agent, renderer, …
        file: The file to write to; None: standard error. The file is rotated when it is full. Standard error is
            rotated too if it goes to the file that the environment variable LTX_FARM_LOG_FILE names.
        libraries: Whether warnings and errors of libraries are written to the log too.
        bound: Further fields that are added to every line.
    """
    words = {"process": process, **bound}
    first: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        lambda logger, name, line: {**words, **line},
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    handler = _handler(file)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[_library, *first],
            processors=[
                ProcessorFormatter.remove_processors_meta,
                # In a log stands what others said, and how processes were started.
                _discreet,
                # JSON escapes what can't be printed; a terminal would obey it.
                *([] if format == "json" else [_printable]),
                structlog.processors.JSONRenderer()
                if format == "json"
                else structlog.dev.ConsoleRenderer(
                    colors=file is None and sys.stderr.isatty(), sort_keys=False
                ),
            ],
        )
    )
    ours = logging.getLogger("farm")
    ours.setLevel(logging.DEBUG)
    ours.propagate = False
    ours.handlers = [handler]
    if libraries:
        logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    structlog.configure(
        processors=[*first, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: ours,
    )


def adopt(library: str) -> None:
    """Remove a library's own log handlers, so that its lines are written in the farm's format.

    Args:
        library: The name of the library's logger, such as "ray".
    """
    logger = logging.getLogger(library)
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


def _library(logger: object, name: str, line: EventDict) -> EventDict:
    return {**line, "logger": line["_record"].name}


def _handler(file: Path | None) -> logging.Handler:
    # What can't be opened is no reason to fail.
    with contextlib.suppress(OSError, DamagedFile):
        if file:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return LogFile(file)
        if is_at(2, inherited := os.environ.get(FILE_VARIABLE, "")):
            return LogFile(Path(inherited))
    return _StandardError()


class _StandardError(logging.Handler):
    """Writes to the standard error of the moment: a program that calls farmctl's commands may replace it at any time.

    A line that can't be written, because the disk is full or nobody reads it any more, is dropped.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
