"""Which tasks are done again when somebody asks for a retry.

Pure: no clock, no I/O. What has succeeded stays while it is kept; nothing is chosen that could never start.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from farm.states import TaskState

LEFT_UNDONE = (TaskState.FAILED, TaskState.CANCELLED)
"""States from which a task can be retried."""


@dataclass(frozen=True)
class Undone:
    """What decides about a task: its state, the ids of the tasks it needs, its lockstep group (empty: none).

    `gone`: it has succeeded, but what it made is kept no longer.
    """

    state: TaskState
    needs: Collection[str] = ()
    group: str = ""
    gone: bool = False


def to_retry(wanted: Collection[str], tasks: Mapping[str, Undone]) -> frozenset[str]:
    """Ids of the tasks (of one job, by id) to retry so that each of `wanted` can be done again.

    Besides those of `wanted` that failed or were cancelled: what they need that did or is gone, and likewise the rest
    of their lockstep groups, which start whole or not at all.
    """
    groups: dict[str, list[str]] = {}
    for id, task in tasks.items():
        if task.group:
            groups.setdefault(task.group, []).append(id)
    chosen: set[str] = set()
    looking = [id for id in wanted if tasks[id].state in LEFT_UNDONE]
    while looking:
        id = looking.pop()
        task = tasks[id]
        if id in chosen or not (task.gone or task.state in LEFT_UNDONE):
            continue
        chosen.add(id)
        looking += task.needs
        looking += groups.get(task.group, ())
    return frozenset(chosen)
