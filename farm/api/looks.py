"""What JobService and TaskService both show: tasks with their reasons, attempts and logs. Reads; blocks."""

from __future__ import annotations

from farm.api.convert import task_message
from farm.store.records import AttemptRecord, JobRecord, TaskRecord
from farm.store.store import Store
from farm.v1 import jobs_pb2
from farm.why import Standing, reason_of

Tasks = list[tuple[TaskRecord, tuple[AttemptRecord, ...]]]


def standings(store: Store, tasks: Tasks) -> dict[str, Standing]:
    """How each task, by id, stands."""
    unmet = store.jobs.unmet(tasks[0][0].job_id) if tasks else {}
    return {task.id: Standing(task.key, task.state, task.reason, unmet.get(task.id, ())) for task, _ in tasks}


def task_messages(store: Store, job: JobRecord, tasks: Tasks) -> list[jobs_pb2.Task]:
    """Tasks of a job as the API shows them."""
    standing, logs = standings(store, tasks), store.artifacts.logs(job.id)
    return [
        task_message(task, attempts, reason_of(job.id, job.state, standing[task.id]), logs)
        for task, attempts in tasks
    ]
