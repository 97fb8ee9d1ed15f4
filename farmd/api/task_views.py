"""Makes the messages in which the API shows jobs and tasks, with the reasons why jobs and tasks wait.

The functions only read the store. They block, so an event loop must call them in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from farm.policy.explain import Fit, UnfinishedTask, reason_of, waits_for
from farm.records import AttemptRecord, JobRecord, TaskRecord
from farm.states import TaskState, is_final
from farm.store.store import Store
from farm.v1 import jobs_pb2
from farm.wire.messages import job_message, task_message

Tasks = list[tuple[TaskRecord, tuple[AttemptRecord, ...]]]


def standings(store: Store, tasks: Tasks) -> dict[str, UnfinishedTask]:
    """Return the state of each task, and which unfinished tasks each task needs.

    Args:
        tasks: Tasks of one job, each with its attempts.

    Returns:
        A dict from each task's id to its UnfinishedTask. Tasks that have succeeded are in it too.
    """
    unmet = store.jobs.unmet(tasks[0][0].job_id) if tasks else {}
    return {
        task.id: UnfinishedTask(task.key, task.state, task.reason, unmet.get(task.id, ()))
        for task, _ in tasks
    }


def task_messages(store: Store, job: JobRecord, tasks: Tasks) -> list[jobs_pb2.Task]:
    """Return the tasks of a job as the API shows them."""
    standing, logs = standings(store, tasks), store.artifacts.logs(job.id)
    return [
        task_message(task, attempts, reason_of(job.id, job.state, standing[task.id]), logs)
        for task, attempts in tasks
    ]


def job_as_it_stands(
    store: Store,
    job: JobRecord,
    fit: Callable[[Sequence[TaskRecord]], Fit],
    loading: Mapping[str, str],
) -> jobs_pb2.Job:
    """Return a job as the API shows it, with its stages.

    If the job hasn't ended and none of its tasks runs, the message also says why the job waits.

    Args:
        fit: Takes unfinished tasks, and returns what each device could do for them.
        loading: A dict from an attempt's id to the name of the model that this attempt is loading now.
    """
    stages = store.jobs.stages(job.id)
    message = job_message(job, stages)
    if loading:
        _name_models(store, message, loading)
    # While something runs, nobody needs to be told why the rest doesn't yet, and to find out would take longer.
    if not is_final(job.state) and not any(stage.running for stage in stages):
        every = store.jobs.tasks(job.id)
        undone = [task for task, _ in every if task.state != TaskState.SUCCEEDED]
        standing = standings(store, every)
        left = [standing[task.id] for task in undone]
        message.waiting = waits_for(job.id, job.state, left, len(every), fit(undone))
    return message


def _name_models(store: Store, message: jobs_pb2.Job, loading: Mapping[str, str]) -> None:
    """Add to the job's stages the models that are being loaded for them."""
    stages = {stage.kind: stage for stage in message.stages}
    for attempt in store.attempts.live():
        stage = stages.get(attempt.task_key.partition("/")[0])
        if attempt.job_id == message.id and attempt.id in loading and stage is not None:
            device = f"{attempt.node}/{attempt.device}"
            stage.loading.add(task=attempt.task_key, model=loading[attempt.id], device=device)
