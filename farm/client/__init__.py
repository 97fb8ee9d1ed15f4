"""The farm from a pipeline's Python: submit, watch, download.

    from farm.client import FarmClient

    with FarmClient.from_profile() as farm:
        job = farm.submit(frames=750, width=1024, height=576, prompt="…", conditions=["shot.mp4"]).job
        for update in farm.watch(job.id):
            print(update)
        farm.download(job.id, "shot-long.mp4")

Results are the API's own messages (proto/farm/v1). Blocking; one client may be used by several threads.
What moves bytes is farm.client.transfer's business.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc

from farm import spec as specs
from farm.backoff import Patience
from farm.client import transfer
from farm.client.delivery import Downloads, how_it_stands, where_decoded
from farm.client.errors import BROKEN, FarmError, InvalidSpec, NotFound, Unreachable, translate
from farm.client.local_media import LocalCondition, check_media, unsent
from farm.v1 import artifacts_pb2, jobs_pb2, nodes_pb2, tasks_pb2
from farm.v1.artifacts_pb2_grpc import ArtifactServiceStub
from farm.v1.jobs_pb2_grpc import JobServiceStub
from farm.v1.nodes_pb2_grpc import NodeServiceStub
from farm.v1.tasks_pb2_grpc import TaskServiceStub
from farm.wire.channels import channel, request_metadata
from farm.wire.profile import Profile

__all__ = ["FarmClient", "FarmError", "InvalidSpec", "LocalCondition", "NotFound", "Unreachable"]

Answer = TypeVar("Answer")
Progress = Callable[[int, int], None]
"""Called with the bytes moved so far and the bytes in all."""

ENDED = (jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED, jobs_pb2.JOB_STATE_CANCELLED)

_READ_SECONDS = 60.0
# The daemon decodes the whole clip to check it.
_SUBMIT_SECONDS = 900.0


class FarmClient:
    """A connection to one farm.

    `server` is host:port, `ca_pem` the farm's CA certificate, `token` the client token. Calls that find no farm
    are tried again for `patience` seconds; then Unreachable is raised. Every method may raise FarmError.

    A `job_id` may be the beginning of an id (6 characters or more), or the name of a job that no other has; likewise
    `before`, JOB in the "JOB/KEY" of a task, and the id or name of a node. Raises InvalidSpec for one that could be any of several,
    with their ids, and does nothing then.
    """

    def __init__(self, server: str, ca_pem: bytes, token: str, patience: float = 10.0) -> None:
        self.server = server
        self.patience = patience
        self._channel = channel(server, ca_pem, token)
        self._jobs = JobServiceStub(self._channel)
        self._tasks = TaskServiceStub(self._channel)
        self._nodes = NodeServiceStub(self._channel)
        self._artifacts = ArtifactServiceStub(self._channel)

    @classmethod
    def from_profile(
        cls,
        path: Path | str | None = None,
        environ: Mapping[str, str] = os.environ,
        patience: float = 10.0,
    ) -> Self:
        """The farm that `path`, the environment or the home names (Profile.find). Raises NoProfile."""
        profile = Profile.find(path, environ)
        return cls(profile.server, profile.ca_pem, profile.token, patience)

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(
        self,
        spec: specs.JobSpec | None = None,
        *,
        conditions: Sequence[str | Path | LocalCondition | specs.Condition] = (),
        idempotency_key: str = "",
        progress: Progress | None = None,
        destination: str | Path | None = None,
        **fields: Any,
    ) -> jobs_pb2.SubmitJobResponse:
        """Makes a job of a JobSpec or of its fields; `conditions` come on top of the spec's own.

        Files on this machine are uploaded, after the rest of the spec was checked; `progress` hears of it. A
        call repeated with the same `idempotency_key` returns the job of the first; one is made when none is
        given, so that trying again never makes two jobs. `destination`: where the video is to be downloaded to
        later; its ending is checked before anything is uploaded. Raises InvalidSpec with the `field` at fault.
        """
        request = jobs_pb2.SubmitJobRequest(
            spec=self._placed(spec, fields, conditions, progress, destination),
            idempotency_key=idempotency_key or secrets.token_hex(16),
        )
        return self._call(self._jobs.SubmitJob, request, _SUBMIT_SECONDS)

    def plan(
        self,
        spec: specs.JobSpec | None = None,
        *,
        conditions: Sequence[str | Path | LocalCondition | specs.Condition] = (),
        progress: Progress | None = None,
        destination: str | Path | None = None,
        **fields: Any,
    ) -> jobs_pb2.SubmitJobResponse:
        """What `submit` would make, in `.plan` and `.notes`; no job is stored. Arguments as for submit."""
        request = jobs_pb2.SubmitJobRequest(
            spec=self._placed(spec, fields, conditions, progress, destination), validate_only=True
        )
        return self._call(self._jobs.SubmitJob, request, _SUBMIT_SECONDS)

    def job(self, job_id: str) -> jobs_pb2.GetJobResponse:
        """A job with its tasks and their attempts. Raises NotFound."""
        return self._call(self._jobs.GetJob, jobs_pb2.GetJobRequest(job_id=job_id))

    def jobs(
        self, states: Sequence[jobs_pb2.JobState] = (), limit: int | None = None, before: str = ""
    ) -> list[jobs_pb2.Job]:
        """Jobs, newest first: those in `states` (none: all), at most `limit` (1 to 1000; None: 100).

        `before`: the id of the last job of the page before, to go on with the jobs after it. Raises NotFound.
        """
        request = jobs_pb2.ListJobsRequest(states=states, limit=limit, before=before)
        return list(self._call(self._jobs.ListJobs, request).jobs)

    def watch(
        self, job_id: str, after_event: int = 0, away: Callable[[FarmError], None] | None = None
    ) -> Iterator[jobs_pb2.JobEvent | jobs_pb2.Job]:
        """Follows a job to its end: each event once, and the job whenever it has changed, last of all ended.

        Goes on from the last event when the daemon restarts; raises Unreachable when it is away for longer than
        `patience`. `away` is told why each time that it could not be reached again. Raises NotFound.
        """
        patience, heard, metadata = Patience(self.patience), True, request_metadata()
        while True:
            request = jobs_pb2.WatchJobRequest(job_id=job_id, after_event=after_event)
            stream = self._jobs.WatchJob(request, metadata=metadata)
            try:
                for response in stream:
                    patience.reset()
                    heard = True
                    if response.HasField("event") and response.event.number > after_event:
                        after_event = response.event.number
                        yield response.event
                    elif response.HasField("job"):
                        # What it was asked by, a name say, may be another job's too when the stream has to begin anew.
                        job_id = response.job.id
                        yield response.job
                        if response.job.state in ENDED and response.job.last_event <= after_event:
                            return
                # Politely ended with the job still running: the daemon is shutting down.
                again = patience.another_try()
                error = None
            except grpc.RpcError as broken:
                error = broken
                # A daemon that is started again is back before anybody need know.
                if away and not heard and broken.code() in BROKEN:
                    away(translate(broken, self.server))
                heard = False
                again = broken.code() in BROKEN and patience.another_try()
            finally:
                stream.cancel()
            if not again:
                raise (
                    translate(error, self.server)
                    if error
                    else Unreachable(f"the farm at {self.server} ended the stream of job {job_id}")
                )

    def cancel(self, job_id: str) -> jobs_pb2.Job:
        """Cancels a job; running windows stop at their next step. Raises NotFound."""
        return self._call(self._jobs.CancelJob, jobs_pb2.CancelJobRequest(job_id=job_id)).job

    def pause(self, job_id: str) -> jobs_pb2.Job:
        """Starts nothing more of a job; running windows finish. Raises NotFound."""
        return self._call(self._jobs.PauseJob, jobs_pb2.PauseJobRequest(job_id=job_id)).job

    def resume(self, job_id: str) -> jobs_pb2.Job:
        """Goes on with a paused job. Raises NotFound."""
        return self._call(self._jobs.ResumeJob, jobs_pb2.ResumeJobRequest(job_id=job_id)).job

    def retry(self, job_id: str, only_failed: bool = False) -> jobs_pb2.RetryJobResponse:
        """Does again what failed or was cancelled of a job, or with `only_failed` what failed. Raises NotFound."""
        request = jobs_pb2.RetryJobRequest(job_id=job_id, only_failed=only_failed)
        return self._call(self._jobs.RetryJob, request)

    def prioritise(self, job_id: str, priority: int) -> jobs_pb2.Job:
        """Gives a job another priority, 0 to 100. Raises NotFound and InvalidSpec."""
        request = jobs_pb2.PrioritiseJobRequest(job_id=job_id, priority=priority)
        return self._call(self._jobs.PrioritiseJob, request).job

    def why(self, job_id: str) -> jobs_pb2.ExplainJobResponse:
        """Why what doesn't run of a job doesn't, and what each device could take of it. Raises NotFound."""
        return self._call(self._jobs.ExplainJob, jobs_pb2.ExplainJobRequest(job_id=job_id))

    def tasks(self, job_id: str, states: Sequence[jobs_pb2.TaskState] = ()) -> list[jobs_pb2.Task]:
        """Tasks of a job in the order of its graph: those in `states` (none: all). Raises NotFound."""
        request = tasks_pb2.ListTasksRequest(job_id=job_id, states=states)
        return list(self._call(self._tasks.ListTasks, request).tasks)

    def task(self, task: str) -> jobs_pb2.Task:
        """One task, by its id, the beginning of it or as "JOB/KEY". Raises NotFound."""
        return self._call(self._tasks.GetTask, tasks_pb2.GetTaskRequest(task=task)).task

    def retry_task(self, task: str) -> tasks_pb2.RetryTaskResponse:
        """Does one failed or cancelled task again, with what it needs that isn't done. Raises NotFound."""
        return self._call(self._tasks.RetryTask, tasks_pb2.RetryTaskRequest(task=task))

    def log(
        self, task: str, epoch: int | None = None, follow: bool = False
    ) -> Iterator[jobs_pb2.Attempt | bytes]:
        """The log of an attempt (None: the newest) of a task: first the attempt, then bytes as they come.

        With `follow` until the attempt has ended; goes on after a restart of the daemon. Raises NotFound, and
        Unreachable when the farm is away for longer than `patience`.
        """
        patience, metadata = Patience(self.patience), request_metadata()
        request = tasks_pb2.ReadLogRequest(task=task, epoch=epoch, follow=follow)
        seen, told = 0, False
        while True:
            stream, read = self._tasks.ReadLog(request, metadata=metadata), 0
            try:
                for response in stream:
                    patience.reset()
                    if response.HasField("attempt"):
                        # Whatever is newest later, this is the one being read.
                        request.epoch = response.attempt.epoch
                        request.task = response.task_id or task
                        if not told:
                            told = True
                            yield response.attempt
                        continue
                    fresh = response.chunk[max(0, seen - read) :]
                    read += len(response.chunk)
                    if fresh:
                        seen = read
                        yield fresh
                return
            except grpc.RpcError as broken:
                if broken.code() not in BROKEN or not patience.another_try():
                    raise translate(broken, self.server) from None
            finally:
                stream.cancel()

    def upload(self, path: str | Path, progress: Progress | None = None) -> artifacts_pb2.Artifact:
        """Copies a file to the farm, whole and checked."""
        header = transfer.describe(Path(path))
        return self._call(
            lambda request, **call: self._artifacts.Upload(
                transfer.parts(Path(path), header, progress), **call
            ),
            None,
            None,
        ).artifact

    def download(
        self, job_id: str, path: str | Path, overwrite: bool = False, progress: Progress | None = None
    ) -> Path:
        """Copies a finished job's video to `path`, which appears whole and checked or not at all.

        An earlier download that was broken off is continued. Raises InvalidSpec (field "output") when `path`
        exists and `overwrite` is false, can't be written or doesn't end as the video's format does, FarmError when the
        job has no video.
        """
        path = Path(path)
        transfer.check_output(path, overwrite)
        job = self.job(job_id).job
        transfer.check_ending(path, self.ending(job))
        if not job.output_artifact_id:
            decoded = where_decoded(job)
            raise FarmError(
                f"job {job.id} has no video: it {how_it_stands(job)}" + (f"\n{decoded}" if decoded else "")
            )
        return self._downloads().fetch(job.output_artifact_id, job.output_bytes, path, overwrite, progress)

    def ending(self, job: jobs_pb2.Job) -> str:
        """How the name of a job's video ends, such as ".mp4"; empty where the farm can't tell yet."""
        if job.output_suffix or not job.output_artifact_id:
            return job.output_suffix
        # Of a job that was submitted before endings were stored.
        found = (one.artifact for one in self.outputs(job.id).outputs)
        return next((Path(one.filename).suffix for one in found if one.id == job.output_artifact_id), "")

    def download_sidecar(self, job_id: str, path: str | Path, overwrite: bool = False) -> Path:
        """Copies the JSON that says how a finished job's video was made to `path`; otherwise as `download`.

        Raises FarmError when the job has no sidecar: it hasn't succeeded, or its output format writes none.
        """
        path = Path(path)
        transfer.check_output(path, overwrite)
        answer = self.outputs(job_id)
        found = [one.artifact for one in answer.outputs if one.artifact.name == "sidecar"]
        if not found:
            id = answer.job.id
            raise FarmError(
                f"job {id} has no sidecar; `farmctl job outputs {id}` shows what it has delivered"
            )
        return self._downloads().fetch(found[0].id, found[0].size, path, overwrite)

    def outputs(self, job_id: str) -> jobs_pb2.ListOutputsResponse:
        """A job's finished files; of one that hasn't succeeded the segments that are decoded. Raises NotFound."""
        return self._call(self._jobs.ListOutputs, jobs_pb2.ListOutputsRequest(job_id=job_id))

    def download_partial(
        self, job_id: str, folder: str | Path, overwrite: bool = False, progress: Progress | None = None
    ) -> list[Path]:
        """Copies what is decoded of a job that hasn't succeeded to `folder`; returns the videos by rising frames.

        Each is an unbroken run of frames, with JSON beside it that says which, and appears whole or not at all. Raises
        InvalidSpec (field "output") when a file exists and `overwrite` is false or none can be written, FarmError when
        nothing is decoded yet or the job has succeeded, and Damaged, with all else in place, for what the farm lost.
        """
        return self._downloads().partial(self.outputs(job_id), Path(folder), overwrite, progress)

    def nodes(self) -> list[nodes_pb2.Node]:
        """All nodes that the farm knows."""
        return list(self._call(self._nodes.ListNodes, nodes_pb2.ListNodesRequest()).nodes)

    def node(self, node: str) -> nodes_pb2.Node:
        """One node by id or name. Raises NotFound."""
        return self._call(self._nodes.GetNode, nodes_pb2.GetNodeRequest(node=node)).node

    def drain_node(
        self, node: str, deadline: float | None = None, reason: str = "", asked_by: str = ""
    ) -> nodes_pb2.Node:
        """Give a node no more work and have it leave when what it runs is done, or after `deadline` seconds.

        Returns at once; `node(...).drain` says how far it is. Raises NotFound.
        """
        request = nodes_pb2.DrainNodeRequest(
            node=node, deadline_seconds=deadline, reason=reason, asked_by=asked_by
        )
        return self._call(self._nodes.DrainNode, request).node

    def resume_node(self, node: str, device: str = "") -> nodes_pb2.ResumeNodeResponse:
        """End a node's drain and the quarantine of all its devices, or that of one device. Raises NotFound."""
        return self._call(self._nodes.ResumeNode, nodes_pb2.ResumeNodeRequest(node=node, device=device))

    def lock_node(self, node: str, device: str = "", reason: str = "", asked_by: str = "") -> nodes_pb2.Node:
        """Give a node, or one device of it, no new work; what runs goes on. Raises NotFound."""
        request = nodes_pb2.LockNodeRequest(node=node, device=device, reason=reason, asked_by=asked_by)
        return self._call(self._nodes.LockNode, request).node

    def unlock_node(self, node: str, device: str = "") -> nodes_pb2.UnlockNodeResponse:
        """End the lock of a device, or all locks of a node. Raises NotFound."""
        return self._call(self._nodes.UnlockNode, nodes_pb2.UnlockNodeRequest(node=node, device=device))

    def forget_node(self, node: str) -> None:
        """Leave a node that is offline or drained out of the record. Raises NotFound."""
        self._call(self._nodes.ForgetNode, nodes_pb2.ForgetNodeRequest(node=node))

    def join_token(self) -> nodes_pb2.GetJoinTokenResponse:
        """The join token, and the addresses at which workstations reach the farm."""
        return self._call(self._nodes.GetJoinToken, nodes_pb2.GetJoinTokenRequest())

    def _downloads(self) -> Downloads:
        return Downloads(self._artifacts, self.server, self.patience)

    def _placed(
        self,
        spec: specs.JobSpec | None,
        fields: dict[str, Any],
        conditions: Sequence[str | Path | LocalCondition | specs.Condition],
        progress: Progress | None,
        destination: str | Path | None,
    ) -> jobs_pb2.JobSpec:
        """The checked spec as a message, its local files uploaded."""
        if spec is not None:
            # A spec and fields: the fields win.
            fields = {**spec.model_dump(exclude_unset=True), **fields}
        wanted = [
            c if isinstance(c, (specs.Condition, LocalCondition)) else LocalCondition(c) for c in conditions
        ]
        before = tuple(fields.pop("conditions", ()))
        try:
            # Checked before the first byte is sent: a clip may take an hour to upload.
            checked = specs.parse_spec(
                {**fields, "conditions": before + tuple(unsent(condition) for condition in wanted)}
            )
        except specs.InvalidSpec as error:
            raise InvalidSpec(error.field, error.problem) from None
        message = _message(checked)
        local = [
            (place, condition)
            for place, condition in enumerate(wanted, len(before))
            if isinstance(condition, LocalCondition)
        ]
        check_media(local)
        if local or destination is not None:
            planned = self._check_without_media(message)
            if destination is not None:
                transfer.check_ending(Path(destination), planned.output_suffix)
        for place, condition in local:
            artifact = self.upload(condition.path, progress)
            message.conditions[place].media.artifact_id = artifact.id
        return message

    def _check_without_media(self, message: jobs_pb2.JobSpec) -> jobs_pb2.PlanSummary:
        """Lets the farm refuse what only it knows (models, strategies, its limits) before anything is stored."""
        bare = jobs_pb2.JobSpec()
        bare.CopyFrom(message)
        del bare.conditions[:]
        return self._call(
            self._jobs.SubmitJob,
            jobs_pb2.SubmitJobRequest(spec=bare, validate_only=True),
            _SUBMIT_SECONDS,
        ).plan

    def _call(
        self,
        method: Callable[..., Answer],
        request: Any,
        timeout: float | None = _READ_SECONDS,
    ) -> Answer:
        """One call, tried again while the farm is unavailable; safe because every call here is idempotent."""
        patience, metadata = Patience(self.patience), request_metadata()
        while True:
            try:
                return method(request, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or not patience.another_try():
                    raise translate(error, self.server, self.patience) from None


def _message(spec: specs.JobSpec) -> jobs_pb2.JobSpec:
    """A JobSpec as the API's message."""
    fields = spec.model_dump(exclude_none=True)
    for condition in fields["conditions"]:
        condition["media"] = {key: value for key, value in condition["media"].items() if value}
    return jobs_pb2.JobSpec(**fields)
