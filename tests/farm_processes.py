"""What a whole farm has under its home: its processes, its log lines about lost work, and the latents of its jobs.

The farm of the tests and the farm of `benchmarks/faults.py` both look for these here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import psutil

from farm.artifacts import ArtifactStore
from farm.plan import LATENTS
from farm.store.store import Store

RENDERER = "RendererActor"
"""A word of every renderer's command line, and of no other process's."""
RAYLET = "raylet/raylet"
"""A word of every raylet's command line."""
BRIDGE = "scheduler.dispatch.ray.bridge"
"""A word of the Ray bridge's command line."""
HEAD = "farm.processes.ray_launch head"
"""Words of the command line that launched the Ray head."""


def called(process: psutil.Process) -> str:
    """Return a process's command line; "" if the process is gone."""
    try:
        return " ".join(process.cmdline())
    except (psutil.Error, OSError):
        return ""


def of_farm(home: Path) -> list[psutil.Process]:
    """Return every live process of the farm in `home`, however the process was started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ours = process.environ().get("FARM_HOME", "").startswith(str(home))
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def raised_by(home: Path, node_home: Path) -> list[psutil.Process]:
    """Return raylet, renderers and their helpers of the node in `node_home`, whose farm is in `home`."""
    found = []
    for process in of_farm(home):
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("FARM_AGENT_HOME") == str(node_home):
                found.append(process)
    return found


def first(words: str, among: Iterable[psutil.Process]) -> psutil.Process:
    """Return the first process with these words in its command line. Raises psutil.NoSuchProcess if there is none."""
    for process in among:
        if words in called(process):
            return process
    raise psutil.NoSuchProcess(0, words)


def with_children(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that it started, directly or through others."""
    return [process, *process.children(recursive=True)]


def stored_latents(store: Store, files: ArtifactStore, job_id: str) -> dict[str, tuple[Path, np.ndarray]]:
    """Return the latents of every storyboard, window and join of a job.

    Returns:
        By the task's key a pair: the file, and its latents [C, n, h, w] in float32.
    """
    from safetensors.numpy import load_file

    found = {}
    for task, _ in store.jobs.tasks(job_id):
        for key, artifacts in store.artifacts.inputs(task.id).needs.items():
            for artifact in artifacts:
                if artifact.name == LATENTS:
                    path = Path(files.path(artifact.location))
                    found[key] = path, load_file(path)["latents"]
    return found


def in_nobodys_hand(home: Path) -> list[str]:
    """Return the log lines in `home` about running attempts that nobody worked on (scheduler.dispatch.audit)."""
    logs = [path.read_text(errors="replace").splitlines() for path in home.rglob("*.log") if path.is_file()]
    return [line for lines in logs for line in lines if "no renderer was working on this attempt" in line]
