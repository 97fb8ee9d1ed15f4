"""The renderer's own log: a line at the begin and at the end of each attempt, beside the raylet's log in the node's folder.

What an attempt does, and all that is printed meanwhile, stands in the attempt's log (renderer.attempt_log); so does what
libraries say.
"""

from __future__ import annotations

from pathlib import Path

import structlog
from structlog.typing import FilteringBoundLogger

from farm.handed import Handed
from farm.logs import configure_as_told


def open_process_log(home: Path, device: str) -> None:
    """Let this process write its lines into the file of its device."""
    configure_as_told("renderer", file=process_log_path(home, device), libraries=False, device=device)


def process_log_path(home: Path, device: str) -> Path:
    """The file in which the renderers of one device write, one after another."""
    return home / "ray" / f"renderer-{device}.log"


def attempt_line(attempt_id: str, epoch: int, handed: Handed) -> FilteringBoundLogger:
    """Return a logger whose lines name the attempt as all other logs do."""
    log: FilteringBoundLogger = structlog.get_logger()
    return log.bind(job=handed.job, task=handed.task.key, attempt=attempt_id, epoch=epoch, node=handed.node)
