"""The choice of the tasks that run again when somebody asks for a retry.

Pure: no clock, no I/O. Finished tasks whose results are still kept don't run again. Each chosen task can start sooner
or later, because the tasks that it lacks are chosen too.
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
        needs: The ids of the tasks that it needs.
        group: Its lockstep group; empty: none.
        gone: True if the task has succeeded, but its result is no longer kept.
    """

    state: TaskState
    needs: Collection[str] = ()
    group: str = ""
    gone: bool = False


def to_retry(wanted: Collection[str], tasks: Mapping[str, Undone]) -> frozenset[str]:
    """Return the ids of the tasks to retry, so that each task in `wanted` can run again. `tasks` are all tasks of the job.

    The failed and cancelled tasks of `wanted` are chosen. For each chosen task, the tasks that it needs and the other
    members of its lockstep group are chosen too, if they failed, were cancelled, or are `gone`. The other members are
    chosen because a group starts as a whole.
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
