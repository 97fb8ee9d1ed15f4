"""Lists the files of a job for JobService. The functions block while they read the store."""

from __future__ import annotations

from farm.plan import VIDEO, TaskKind, delivered_frames
from farm.records import JobRecord, TaskRecord
from farm.states import JobState
from farm.store.store import Store
from farm.v1 import jobs_pb2
from farm.wire.messages import artifact_message, job_message


def outputs(store: Store, job_id: str) -> jobs_pb2.ListOutputsResponse:
    """Return the files that a job has made. Raises NotFound.

    If the job has succeeded, these are its finished files, such as the video. Otherwise they are the segments
    (encoded parts of the video) that are done so far.
    """
    job = store.jobs.get(job_id)
    wanted = TaskKind.MUX if job.state == JobState.SUCCEEDED else TaskKind.DECODE
    # In the order of the graph, which is that of the frames.
    makers = [task for task, _ in store.jobs.tasks(job_id) if task.kind == wanted]
    made = store.artifacts.results(job_id, [task.key for task in makers])
    answer = jobs_pb2.ListOutputsResponse(job=job_message(job, store.jobs.stages(job_id)))
    for task in makers:
        for artifact in sorted(made.get(task.key, ()), key=lambda one: one.name != VIDEO):
            start, stop = _frames(job, task, artifact.name)
            answer.outputs.add(artifact=artifact_message(artifact), task=task.key, start=start, stop=stop)
    return answer


def _frames(job: JobRecord, task: TaskRecord, name: str) -> tuple[int, int]:
    """Return the delivered frames [start, stop) in the task's artifact `name`; both are 0 if it holds no frames."""
    if task.kind == TaskKind.DECODE:
        return delivered_frames(job.shared, task.payload)
    return (0, job.spec.frames) if name == VIDEO else (0, 0)
