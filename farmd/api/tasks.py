"""TaskService: shows tasks and their logs, and retries tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
from structlog.contextvars import bind_contextvars

from farm.artifacts import CHUNK, ArtifactStore
from farm.clock import boottime
from farm.logs import SEEN_BYTES, rest
from farm.records import ArtifactRecord, AttemptRecord, TaskRecord
from farm.states import is_final
from farm.store.store import Store
from farm.v1 import jobs_pb2, tasks_pb2, tasks_pb2_grpc
from farm.wire.messages import attempt_message, task_states
from farmd.api.gate import Context, Refused
from farmd.api.task_views import task_messages
from scheduler.dispatch.job_watchers import JobWatchers
from scheduler.dispatch.sessions import Sessions

LOOK_SECONDS = 0.5
"""A followed log is looked at so often."""

DELIVERY_SECONDS = 10.0
"""Within this time after its end an attempt's log is here, where its node is."""


class TaskService(tasks_pb2_grpc.TaskServiceServicer):
    """Serves calls about tasks. The answers come from the store.

    If a log has not been uploaded yet, the service fetches it from the agent of the node that has it.
    """

    def __init__(
        self,
        store: Store,
        files: ArtifactStore,
        sessions: Sessions,
        changes: JobWatchers,
        wake: Callable[[], None],
    ):
        self._store, self._files, self._sessions = store, files, sessions
        self._changes, self._wake = changes, wake

    async def ListTasks(
        self, request: tasks_pb2.ListTasksRequest, context: Context
    ) -> tasks_pb2.ListTasksResponse:
        """List a job's tasks."""
        states = task_states(request.states)

        def read() -> list[jobs_pb2.Task]:
            job = self._store.jobs.get(self._store.lookup.job(request.job_id))
            found = self._store.jobs.tasks(job.id)
            wanted = [pair for pair in found if not states or pair[0].state in states]
            return task_messages(self._store, job, wanted)

        return tasks_pb2.ListTasksResponse(tasks=await asyncio.to_thread(read))

    async def GetTask(self, request: tasks_pb2.GetTaskRequest, context: Context) -> tasks_pb2.GetTaskResponse:
        """Return one task."""
        return tasks_pb2.GetTaskResponse(task=await asyncio.to_thread(self._task, request.task))

    async def RetryTask(
        self, request: tasks_pb2.RetryTaskRequest, context: Context
    ) -> tasks_pb2.RetryTaskResponse:
        """Queue one task again, with the tasks that it needs."""

        def retry() -> tuple[TaskRecord, tuple[str, ...]]:
            task = self._store.lookup.task(request.task)
            return task, self._store.jobs.retry(task.job_id, task_ids=[task.id])

        task, again = await asyncio.to_thread(retry)
        bind_contextvars(job=task.job_id, task=task.key)
        await self._changes.notify(task.job_id)
        self._wake()
        return tasks_pb2.RetryTaskResponse(task=await asyncio.to_thread(self._task, task.id), tasks=again)

    async def ReadLog(
        self, request: tasks_pb2.ReadLogRequest, context: Context
    ) -> AsyncIterator[tasks_pb2.ReadLogResponse]:
        """Stream an attempt's log from the artifact store, or from the node if the log has not been uploaded yet."""
        epoch = request.epoch if request.HasField("epoch") else None
        attempt, kept = await asyncio.to_thread(self._attempt, request.task, epoch)
        yield tasks_pb2.ReadLogResponse(attempt=attempt_message(attempt, kept), task_id=attempt.task_id)
        offset, ended_at, last = 0, None, b""
        while kept is None:
            over = is_final(attempt.state)
            part = await self._sessions.read_log(attempt, offset)
            if part:
                offset, last = offset + len(part), (last + part)[-SEEN_BYTES:]
                yield tasks_pb2.ReadLogResponse(chunk=part)
                continue
            if over:
                ended_at = ended_at or boottime()
                if self._sessions.get(attempt.node_id) is None or boottime() > ended_at + DELIVERY_SECONDS:
                    return
            elif not request.follow:
                return
            await asyncio.sleep(LOOK_SECONDS)
            attempt, kept = await asyncio.to_thread(self._attempt, attempt.task_id, attempt.epoch)
        try:
            whole = await asyncio.to_thread(lambda: b"".join(self._files.read(kept.location)))
        except OSError as error:
            raise Refused(
                grpc.StatusCode.DATA_LOSS, f"the log of attempt {attempt.id} can't be read: {error.strerror}"
            ) from None
        left = rest(whole, offset, last)
        for start in range(0, len(left), CHUNK):
            yield tasks_pb2.ReadLogResponse(chunk=left[start : start + CHUNK])

    def _task(self, name: str) -> jobs_pb2.Task:
        task = self._store.lookup.task(name)
        found = [pair for pair in self._store.jobs.tasks(task.job_id) if pair[0].id == task.id]
        return task_messages(self._store, self._store.jobs.get(task.job_id), found)[0]

    def _attempt(self, name: str, epoch: int | None) -> tuple[AttemptRecord, ArtifactRecord | None]:
        task = self._store.lookup.task(name)
        tries = {attempt.epoch: attempt for attempt in self._store.attempts.of(task.id)}
        if not tries:
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"task {task.key} has no log, because no device has begun this task yet",
            )
        wanted = max(tries) if epoch is None else epoch
        if wanted not in tries:
            known = ", ".join(map(str, sorted(tries)))
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"epoch: must be one of the epochs of task {task.key} ({known}), got {wanted}",
            )
        return tries[wanted], self._store.artifacts.log_of(tries[wanted].id)
