"""The renderer's own log: a line at the start and the end of each attempt, in a file beside the raylet's log.

What an attempt does and prints, and what libraries log meanwhile, is in the attempt's own log (renderer.attempt_log).
"""

from __future__ import annotations

from pathlib import Path

import structlog
from structlog.typing import FilteringBoundLogger

from farm.handed import Handed
from farm.logs import configure_as_told


def open_process_log(home: Path, device: str) -> None:
    """Make this process write its log lines to the log file of its device."""
    configure_as_told("renderer", file=process_log_path(home, device), libraries=False, device=device)


def process_log_path(home: Path, device: str) -> Path:
    """Return the path of a device's log file. All renderers of the device append to it, one after another."""
    return home / "ray" / f"renderer-{device}.log"


def attempt_line(attempt_id: str, epoch: int, handed: Handed) -> FilteringBoundLogger:
    """Return a logger that adds the job, task, attempt, epoch and node to each line.

    `handed` gives the job, the task and the node.
    """
    log: FilteringBoundLogger = structlog.get_logger()
    return log.bind(job=handed.job, task=handed.task.key, attempt=attempt_id, epoch=epoch, node=handed.node)
