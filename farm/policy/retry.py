"""Chooses the tasks that run again when somebody asks for a retry. Pure: no clock, no I/O.

A task that runs again may need other tasks. If these failed or were cancelled, or if the farm no longer keeps their
results, they run again too. Otherwise the first task would wait for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from farm.states import TaskState

LEFT_UNDONE = (TaskState.FAILED, TaskState.CANCELLED)
"""The states from which a task can be retried."""


@dataclass(frozen=True)
class Undone:
    """The facts about a task that the choice depends on.

    Attributes:
        state: The task's state.
        needs: The ids of the tasks that this task needs.
        group: The task's lockstep group; empty: none.
        gone: Whether the task has succeeded, but the farm no longer keeps its result.
    """

    state: TaskState
    needs: Collection[str] = ()
    group: str = ""
    gone: bool = False


def to_retry(wanted: Collection[str], tasks: Mapping[str, Undone]) -> frozenset[str]:
    """Return the ids of the tasks to retry, so that the wanted tasks can run again.

    First, the failed and cancelled tasks of `wanted` are chosen. Each chosen task then adds the tasks that it needs,
    and the other members of its lockstep group, because a group starts as a whole. A task is added only if it failed,
    was cancelled, or is `gone`.

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
