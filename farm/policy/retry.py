"""Chooses the tasks that run again when somebody asks for a retry.

Pure: no clock, no I/O.

A task that runs again may need the results of other tasks. If these other tasks failed or were cancelled, they run
again too. So do tasks whose results the farm no longer keeps. Otherwise the first task would wait for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from farm.states import TaskState

LEFT_UNDONE = (TaskState.FAILED, TaskState.CANCELLED)
"""The states from which a task can be retried."""


@dataclass(frozen=True)
class Undone:
    """What `to_retry` must know about a task.

    Attributes:
        state: The task's state.
        needs: The ids of the tasks that this task needs.
        group: The name of the task's lockstep group (tasks that run at the same time); empty: none.
        gone: Whether the task has succeeded, but the farm no longer keeps its result.
    """

    state: TaskState
    needs: Collection[str] = ()
    group: str = ""
    gone: bool = False


def to_retry(wanted: Collection[str], tasks: Mapping[str, Undone]) -> frozenset[str]:
    """Return the ids of the tasks that must run again so that the wanted tasks can run again.

    The choice begins with the failed and cancelled tasks of `wanted`. Each chosen task adds the tasks that it needs. It
    also adds the other members of its lockstep group, because a group starts as a whole. A task that has succeeded is
    added only if the farm no longer keeps its result. A task that still waits or runs is never added.

    Args:
        wanted: The ids of the tasks that somebody wants to retry.
        tasks: All tasks of the job, by id.
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
