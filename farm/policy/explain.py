"""Sentences for people about why a job's tasks don't run.

Pure: no clock, no I/O. If a task is ready but has no device yet, scheduler.placement.reasons makes the sentence. The
store keeps that sentence with the task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farm.policy.gist import failure, gist
from farm.states import JobState, TaskState, is_final

SUBMIT_AGAIN = "submit the job again"
"""Words of an error that no retry mends, because an upload is lost."""

_NAMED = 3


@dataclass(frozen=True)
class DeviceFit:
    """How many of a job's unfinished tasks a device could take, and what the device does now.

    Attributes:
        device: The device, as "node/device".
        fits: The number of tasks that the device could take if it were usable and free.
        of: The number of the job's unfinished tasks.
        usable: True if the device accepts work now.
        task: The task that the device works on now; "" if there is none.
        reason: Why the device isn't usable, or why it can't take some of the tasks; "" if it can take all of them.
    """

    device: str
    fits: int
    of: int
    usable: bool = True
    task: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Fit:
    """What each device of the farm could do for one job.

    `homeless` has the keys of the tasks that no device can ever take, each with the reason.
    """

    devices: tuple[DeviceFit, ...]
    homeless: Mapping[str, str]


@dataclass(frozen=True)
class UnfinishedTask:
    """A task that has not succeeded.

    - `reason`: why the task is in this state, as the store has it; "" if the store has no reason.
    - `unmet`: the keys of the unfinished tasks whose results this task needs.
    """

    key: str
    state: TaskState
    reason: str = ""
    unmet: Sequence[str] = ()


def reason_of(job_id: str, job: JobState, task: UnfinishedTask) -> str:
    """Return why a task doesn't run. The text is usually "" if the task runs."""
    if task.state == TaskState.WAITING and not task.unmet:
        return "the tasks that this task needs have just finished; this task is about to become ready"
    if task.state == TaskState.WAITING:
        return f"needs {_some(task.unmet)}" + (", and the job is paused" if job == JobState.PAUSED else "")
    if task.state == TaskState.READY and job == JobState.PAUSED:
        return f"the job is paused; `farmctl job resume {job_id}` resumes it"
    if task.state == TaskState.READY:
        return task.reason or "the farm has not chosen a device yet"
    if task.state == TaskState.CANCELLED and not is_final(job):
        return f"the task was cancelled; `farmctl task retry {job_id}/{task.key}` runs it again"
    return task.reason


def tried_again(seconds: float, error: str) -> str:
    """Return a text that says why a task waits `seconds` before its next attempt.

    `error` is the error with which the last attempt ended.
    """
    return f"is tried again after {seconds:g} s, because of: {gist(error)}"


def done_again(key: str, error: str) -> str:
    """Return a text that says why the finished task `key` runs again. `error` says how the task's result is damaged."""
    return f"{key} runs again, because its result is damaged: {gist(error)}"


def summary(
    job_id: str,
    job: JobState,
    error: str,
    tasks: Sequence[UnfinishedTask],
    total: int,
    fit: Fit | None = None,
) -> str:
    """Return a sentence about the job: what it does, or why it waits and what would help.

    Args:
        job_id: The job.
        job: The job's state.
        error: Why the job ended; "" if there is no reason.
        tasks: The job's tasks that have not succeeded.
        total: The number of all tasks of the job.
        fit: What each device could do for the job. If None, the sentence doesn't say which tasks no device can take.
    """
    again = (
        f"`farmctl job retry {job_id}` continues from the {total - len(tasks)} of {total} tasks that are done"
    )
    if job == JobState.SUCCEEDED:
        return "succeeded: it waits for nothing"
    if is_final(job):
        # A retry can't bring back a lost upload.
        then = "" if SUBMIT_AGAIN in error else f"; {again}"
        return f"{job}{': ' + failure(error, job_id) if error else ''}{then}"
    count = Counter(task.state for task in tasks)
    running = count[TaskState.RUNNING]
    if job == JobState.PAUSED:
        end = f"; {_tasks(running)} still run{'s' * (running == 1)} and will finish" if running else ""
        return f"paused: no more of its tasks start until `farmctl job resume {job_id}`{end}"
    parts = []
    if running:
        parts.append(f"{_tasks(running)} run{'s' * (running == 1)}")
    ready = [task for task in tasks if task.state == TaskState.READY]
    if ready:
        reasons = Counter(reason_of(job_id, job, task) for task in ready)
        why, often = reasons.most_common(1)[0]
        others = f" ({len(ready) - often} for other reasons)" if often < len(ready) else ""
        parts.append(f"{_tasks(len(ready))} {'is' if len(ready) == 1 else 'are'} ready: {why}{others}")
    if count[TaskState.WAITING]:
        waiting, before = count[TaskState.WAITING], running + len(ready)
        parts.append(f"{_tasks(waiting)} wait{'s' * (waiting == 1)} for {'it' if before == 1 else 'them'}")
    if left := count[TaskState.CANCELLED] + count[TaskState.FAILED]:
        parts.append(f"{_tasks(left)} {'is' if left == 1 else 'are'} left out until a retry")
    if fit and fit.homeless:
        key, problem = next(iter(fit.homeless.items()))
        more = f" (and {len(fit.homeless) - 1} more)" if len(fit.homeless) > 1 else ""
        parts.append(f"no device of this farm could ever take {key}{more}: {problem}")
    return f"{job}: " + "; ".join(parts)


def waits_for(
    job_id: str, job: JobState, tasks: Sequence[UnfinishedTask], total: int, fit: Fit | None = None
) -> str:
    """Return a sentence that says what a job waits for; "" if the job doesn't wait.

    A job doesn't wait if it has ended, if one of its tasks runs, or if its next task is about to start. The sentence
    is that of `summary` without the job's state. The arguments mean the same as for `summary`.
    """
    known = job == JobState.PAUSED or (fit and fit.homeless) or any(
        task.state == TaskState.READY and task.reason for task in tasks
    )  # fmt: skip
    if is_final(job) or not known or any(task.state == TaskState.RUNNING for task in tasks):
        return ""
    return summary(job_id, job, "", tasks, total, fit).removeprefix(f"{job}: ")


def _tasks(count: int) -> str:
    return f"{count} task" + ("" if count == 1 else "s")


def _some(keys: Sequence[str]) -> str:
    more = len(keys) - _NAMED
    return ", ".join(keys[:_NAMED]) + (f" and {more} more" if more > 0 else "")
