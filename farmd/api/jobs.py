"""JobService: submits, shows, watches and controls jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from structlog.contextvars import bind_contextvars

from farm.clock import boottime
from farm.policy.explain import reason_of, summary
from farm.records import AttemptRecord, EventRecord, JobRecord
from farm.spec import InvalidSpec, check_priority
from farm.states import TaskState, is_final
from farm.store.store import Store
from farm.v1 import jobs_pb2, jobs_pb2_grpc
from farm.wire.messages import (
    event_message,
    job_message,
    job_states,
    plan_message,
    shown_prompts,
    spec_from_message,
    task_state,
)
from farmd.api.gate import Context
from farmd.api.job_settings import job_settings
from farmd.api.outputs import outputs
from farmd.api.task_views import job_as_it_stands, standings, task_messages
from scheduler.dispatch.job_watchers import JobWatchers

if TYPE_CHECKING:
    from farmd.fits import Fits
    from farmd.intake import Intake

MAX_KEY = 64
SETTLE_SECONDS = 0.05
"""A watcher's next look waits this long: a task's end, the next one's dispatch and its start are one look then,
and no look stands in their way."""

WAITING_SECONDS = 3.0
"""While nothing of a job runs it is looked at so often: what it waits for may change with no change of the job."""

QUIET_SECONDS = 15.0
"""A watcher is told how the job stands at least this often, so that it notices a dead connection."""


class JobService(jobs_pb2_grpc.JobServiceServicer):
    """Serves the calls about jobs."""

    def __init__(
        self,
        store: Store,
        intake: Intake,
        changes: JobWatchers,
        wake: Callable[[], None],
        stop: Callable[[Sequence[AttemptRecord], str], Awaitable[None]],
        fits: Fits,
        loading: Callable[[], Mapping[str, str]] = dict,
    ):
        """`loading` returns the ids of the attempts that wait for a model to load, each with the model's name."""
        self._store, self._intake, self._changes, self._fits = store, intake, changes, fits
        self._loading = loading
        self._wake, self._stop = wake, stop

    async def SubmitJob(
        self, request: jobs_pb2.SubmitJobRequest, context: Context
    ) -> jobs_pb2.SubmitJobResponse:
        """Check, plan and store a job. An invalid job is not stored."""
        if len(request.idempotency_key) > MAX_KEY:
            raise InvalidSpec(
                "idempotency_key",
                f"must be at most {MAX_KEY} characters, got {len(request.idempotency_key)}",
            )
        spec = spec_from_message(request.spec, self._intake.presets.filled)
        planned = await asyncio.to_thread(self._intake.plan, spec, keep_media=not request.validate_only)
        response = jobs_pb2.SubmitJobResponse(
            plan=plan_message(
                planned.plan,
                planned.fitting_devices,
                planned.estimated_seconds,
                job_settings(
                    spec,
                    planned.plan.shared,
                    [(task.kind, task.payload) for task in planned.plan.tasks],
                    self._intake.catalogue,
                ),
            ),
            notes=planned.notes,
        )
        if not request.validate_only:
            job, existing = await asyncio.to_thread(
                self._store.jobs.submit,
                spec,
                planned.plan,
                planned.notes,
                request.idempotency_key,
                planned.media,
            )
            bind_contextvars(job=job.id)
            response.job.CopyFrom(job_message(job))
            response.existing = existing
            self._wake()
        return response

    async def GetJob(self, request: jobs_pb2.GetJobRequest, context: Context) -> jobs_pb2.GetJobResponse:
        """Return one job with its stages, tasks and attempts."""

        def read() -> jobs_pb2.GetJobResponse:
            # The job first: below one that has ended nothing is under way any more.
            job = self._store.jobs.get(self._store.lookup.job(request.job_id))
            tasks = self._store.jobs.tasks(job.id)
            return jobs_pb2.GetJobResponse(
                job=self._as_it_stands(job),
                tasks=task_messages(self._store, job, tasks),
                shown_prompts=shown_prompts(job.shared),
                settings=job_settings(
                    job.spec,
                    job.shared,
                    [(task.kind, task.payload) for task, _ in tasks],
                    self._intake.catalogue,
                ),
            )

        return await asyncio.to_thread(read)

    async def ListJobs(
        self, request: jobs_pb2.ListJobsRequest, context: Context
    ) -> jobs_pb2.ListJobsResponse:
        """List jobs, newest first."""
        limit = request.limit if request.HasField("limit") else 100
        if not 1 <= limit <= 1000:
            raise InvalidSpec("limit", f"must be from 1 to 1000, got {limit}")
        states = job_states(request.states)

        def read() -> list[JobRecord]:
            before = request.before and self._store.lookup.job(request.before, "before")
            return self._store.jobs.list(states, limit, before)

        jobs = await asyncio.to_thread(read)
        return jobs_pb2.ListJobsResponse(jobs=[job_message(job) for job in jobs])

    async def WatchJob(
        self, request: jobs_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.WatchJobResponse]:
        """Stream the job's events and its state until the job has ended."""

        def look(after: int) -> tuple[jobs_pb2.Job, list[EventRecord]]:
            # The job is read before its events, so that its last event is out before its end is told.
            return self._job(job_id), self._store.events.after(after, job_id)

        # Once: another job of the same name must not take this one's place, nor end its watching.
        job_id = await self._named(request.job_id)
        number, told, told_at = request.after_event, None, 0.0
        while True:
            seen = self._changes.seen(job_id)
            job, events = await asyncio.to_thread(look, number)
            for event in events:
                number = event.number
                yield jobs_pb2.WatchJobResponse(event=event_message(event))
            if job != told or boottime() >= told_at + QUIET_SECONDS:
                yield jobs_pb2.WatchJobResponse(job=job)
                told, told_at = job, boottime()
            if is_final(job_states([job.state])[0]):
                return
            runs = any(stage.running for stage in job.stages)
            await self._changes.wait(job_id, seen, QUIET_SECONDS if runs else WAITING_SECONDS)
            await asyncio.sleep(SETTLE_SECONDS)

    async def CancelJob(
        self, request: jobs_pb2.CancelJobRequest, context: Context
    ) -> jobs_pb2.CancelJobResponse:
        """Cancel a job, and tell the nodes that work on it to stop at once."""
        job_id = await self._named(request.job_id)
        stopped = await asyncio.to_thread(self._store.jobs.cancel, job_id)
        await self._stop(stopped, "the job was cancelled")
        await self._changes.notify(job_id)
        self._wake()
        return jobs_pb2.CancelJobResponse(job=await asyncio.to_thread(self._job, job_id))

    async def PauseJob(
        self, request: jobs_pb2.PauseJobRequest, context: Context
    ) -> jobs_pb2.PauseJobResponse:
        """Pause a job: none of its tasks start until the job is resumed."""
        return jobs_pb2.PauseJobResponse(job=await self._change(request.job_id, self._store.jobs.pause))

    async def ResumeJob(
        self, request: jobs_pb2.ResumeJobRequest, context: Context
    ) -> jobs_pb2.ResumeJobResponse:
        """Resume a paused job."""
        return jobs_pb2.ResumeJobResponse(job=await self._change(request.job_id, self._store.jobs.resume))

    async def RetryJob(
        self, request: jobs_pb2.RetryJobRequest, context: Context
    ) -> jobs_pb2.RetryJobResponse:
        """Queue a job's failed and cancelled tasks again."""
        again: tuple[str, ...] = ()

        def retry(job_id: str) -> None:
            nonlocal again
            again = self._store.jobs.retry(job_id, only_failed=request.only_failed)

        job = await self._change(request.job_id, retry)
        return jobs_pb2.RetryJobResponse(job=job, tasks=again)

    async def PrioritiseJob(
        self, request: jobs_pb2.PrioritiseJobRequest, context: Context
    ) -> jobs_pb2.PrioritiseJobResponse:
        """Change a job's priority."""
        if not request.HasField("priority"):
            raise InvalidSpec("priority", "must be a number from 0 to 100, got none")
        check_priority(request.priority)
        job = await self._change(
            request.job_id, lambda job_id: self._store.jobs.prioritise(job_id, request.priority)
        )
        return jobs_pb2.PrioritiseJobResponse(job=job)

    async def ExplainJob(
        self, request: jobs_pb2.ExplainJobRequest, context: Context
    ) -> jobs_pb2.ExplainJobResponse:
        """Return why a job's tasks don't run, and which devices could take them."""
        return await asyncio.to_thread(self._explain, await self._named(request.job_id))

    async def ListOutputs(
        self, request: jobs_pb2.ListOutputsRequest, context: Context
    ) -> jobs_pb2.ListOutputsResponse:
        """List the finished files of a job. Until the job succeeds, list its decoded segments instead."""
        return await asyncio.to_thread(outputs, self._store, await self._named(request.job_id))

    def _explain(self, job_id: str) -> jobs_pb2.ExplainJobResponse:
        job = self._store.jobs.get(job_id)
        every = self._store.jobs.tasks(job_id)
        standing = standings(self._store, every)
        undone = [task for task, _ in every if task.state != TaskState.SUCCEEDED]
        fit = self._fits.fit(undone)
        left = [standing[task.id] for task in undone]
        answer = jobs_pb2.ExplainJobResponse(
            summary=summary(job_id, job.state, job.error, left, len(every), fit)
        )
        for task in left:
            if task.state != TaskState.RUNNING:
                reason = reason_of(job_id, job.state, task)
                answer.tasks.add(key=task.key, state=task_state(task.state), reason=reason)
        for device in fit.devices:
            answer.devices.add(**asdict(device))
        return answer

    async def _named(self, reference: str) -> str:
        """Return the id of the job that an id, the beginning of an id, or a name means. Raises NotFound and Ambiguous."""
        job_id = await asyncio.to_thread(self._store.lookup.job, reference)
        bind_contextvars(job=job_id)
        return job_id

    async def _change(self, reference: str, change: Callable[[str], JobRecord | None]) -> jobs_pb2.Job:
        """Make a change that may let tasks start or keep them from starting; return the job after it."""
        job_id = await self._named(reference)
        await asyncio.to_thread(change, job_id)
        await self._changes.notify(job_id)
        self._wake()
        return await asyncio.to_thread(self._job, job_id)

    def _job(self, job_id: str) -> jobs_pb2.Job:
        return self._as_it_stands(self._store.jobs.get(job_id))

    def _as_it_stands(self, job: JobRecord) -> jobs_pb2.Job:
        return job_as_it_stands(self._store, job, self._fits.fit, self._loading())
