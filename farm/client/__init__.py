"""The Python client of a farm: submit jobs, watch them, download videos.

    from farm.client import FarmClient

    with FarmClient.from_profile() as farm:
        job = farm.submit(frames=750, width=1024, height=576, prompt="…", conditions=["shot.mp4"]).job
        for update in farm.watch(job.id):
            print(update)
        farm.download(job.id, "shot-long.mp4")

Methods return the API's own messages (proto/farm/v1). Calls block. Several threads may share one client.
farm.client.transfer and farm.client.delivery move the bytes of files.
"""

from __future__ import annotations

import os
import secrets
import threading
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
from farm.presets import chosen, filled
from farm.v1 import artifacts_pb2, jobs_pb2, nodes_pb2, plugins_pb2, tasks_pb2
from farm.v1.artifacts_pb2_grpc import ArtifactServiceStub
from farm.v1.jobs_pb2_grpc import JobServiceStub
from farm.v1.nodes_pb2_grpc import NodeServiceStub
from farm.v1.plugins_pb2_grpc import PluginServiceStub
from farm.v1.tasks_pb2_grpc import TaskServiceStub
from farm.wire.channels import channel, request_metadata
from farm.wire.plugin_messages import preset_from_message
from farm.wire.profile import Profile

__all__ = ["FarmClient", "FarmError", "InvalidSpec", "LocalCondition", "NotFound", "Unreachable"]

Answer = TypeVar("Answer")
Progress = Callable[[int, int], None]
"""A function called with the bytes moved so far and the bytes in all."""

ENDED = (jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED, jobs_pb2.JOB_STATE_CANCELLED)

_READ_SECONDS = 60.0
# The daemon decodes the whole clip to check it.
_SUBMIT_SECONDS = 900.0
_CLOSE_SECONDS = 1.0


class FarmClient:
    """A connection to one farm.

    Wherever a method takes a job, give the job's id, the first 6 or more characters of the id, or the job's name if no
    other job has that name. Nodes are given in the same three ways.

    Every method may raise FarmError. Two of its subclasses can come from any method:

    - Unreachable: no farm answers for `patience` seconds.
    - InvalidSpec: an argument is not accepted, or it matches several jobs or nodes. In the second case, the message
      lists the ids of these jobs or nodes. The farm has changed nothing.
    """

    def __init__(self, server: str, ca_pem: bytes, token: str, patience: float = 10.0) -> None:
        """Make a client. The first call opens the connection.

        Args:
            server: The farm's address, as host:port.
            ca_pem: The farm's CA certificate, in PEM.
            token: The client token.
            patience: Seconds for which a call is tried again while no farm answers.
        """
        self.server = server
        self.patience = patience
        self._channel = channel(server, ca_pem, token)
        self._jobs = JobServiceStub(self._channel)
        self._tasks = TaskServiceStub(self._channel)
        self._nodes = NodeServiceStub(self._channel)
        self._artifacts = ArtifactServiceStub(self._channel)
        self._plugins = PluginServiceStub(self._channel)

    @classmethod
    def from_profile(
        cls,
        path: Path | str | None = None,
        environ: Mapping[str, str] = os.environ,
        patience: float = 10.0,
    ) -> Self:
        """Return a client for the farm that a profile names.

        Args:
            path: The client.json to read; None: the profile is found as described in Profile.find.
            environ: The environment variables to read.
            patience: Seconds for which a call is tried again while no farm answers.

        Raises:
            NoProfile: There is no usable profile.
        """
        profile = Profile.find(path, environ)
        return cls(profile.server, profile.ca_pem, profile.token, patience)

    def close(self) -> None:
        """Close the connection.

        If Ctrl-C interrupted a call just as the call began, gRPC would wait for this call for ever. So this method
        returns after a second at the latest.
        """
        closing = threading.Thread(target=self._channel.close, name="close", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)

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
        """Submit a job. Files on this machine are uploaded after the farm has checked the rest of the spec.

        Args:
            spec: The job; None: `fields` describe the whole job.
            conditions: Images and clips for the video, in addition to those of `spec`. A plain path means a file on
                this machine, placed at frame 0 of the video.
            idempotency_key: If a job was submitted with this key before, the call returns that job and makes no new
                one. Empty: each call makes a new key, so that a retry within the call never makes a second job.
            progress: Called during uploads.
            destination: The file to which the video will be downloaded later. Its extension, such as ".mp4", is
                checked before anything is uploaded.
            **fields: Fields of JobSpec. They replace the same fields of `spec`. Fields that a `preset` sets may be left
                out, even `width` and `height`.

        Returns:
            The job in `.job`, its plan in `.plan`, and notes for people in `.notes`. `.existing` is true if an earlier
            call with the same `idempotency_key` made the job.

        Raises:
            InvalidSpec: The farm refuses the job. `field` names the part at fault.
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
        """Plan a job without storing it. Like `submit`, this method uploads files on this machine.

        Args:
            spec: The job; None: `fields` describe the whole job.
            conditions: Images and clips for the video, in addition to those of `spec`. A plain path means a file on
                this machine, placed at frame 0 of the video.
            progress: Called during uploads.
            destination: The file to which the video would be downloaded. Its extension, such as ".mp4", is checked
                before anything is uploaded.
            **fields: Fields of JobSpec. They replace the same fields of `spec`. Fields that a `preset` sets may be left
                out, even `width` and `height`.

        Returns:
            The plan in `.plan`, and notes for people in `.notes`.

        Raises:
            InvalidSpec: The farm refuses the job. `field` names the part at fault.
        """
        request = jobs_pb2.SubmitJobRequest(
            spec=self._placed(spec, fields, conditions, progress, destination), validate_only=True
        )
        return self._call(self._jobs.SubmitJob, request, _SUBMIT_SECONDS)

    def job(self, job_id: str) -> jobs_pb2.GetJobResponse:
        """Return a job with its tasks and their attempts.

        Raises:
            NotFound: There is no such job.
        """
        return self._call(self._jobs.GetJob, jobs_pb2.GetJobRequest(job_id=job_id))

    def jobs(
        self, states: Sequence[jobs_pb2.JobState] = (), limit: int | None = None, before: str = ""
    ) -> list[jobs_pb2.Job]:
        """Return a page of jobs, newest first.

        Args:
            states: The states of the jobs to return; empty: all states.
            limit: The most jobs to return, from 1 to 1000; None: 100.
            before: A job. Only older jobs are returned. For the next page, give the last job of this page.

        Raises:
            NotFound: `before` names no job.
        """
        request = jobs_pb2.ListJobsRequest(states=states, limit=limit, before=before)
        return list(self._call(self._jobs.ListJobs, request).jobs)

    def watch(
        self, job_id: str, after_event: int = 0, away: Callable[[FarmError], None] | None = None
    ) -> Iterator[jobs_pb2.JobEvent | jobs_pb2.Job]:
        """Follow a job to its end. If the daemon restarts, the client continues from the last event.

        Args:
            after_event: Yield only events with a higher number.
            away: Called with the error each time the client can't reach the daemon. The first failure in a row isn't
                reported, because a restarting daemon is usually back at the next try.

        Yields:
            Each event once, and the job whenever it has changed. The last value is the job in its final state.

        Raises:
            NotFound: There is no such job.
            Unreachable: The daemon was away for longer than `patience`.
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
                        # `job_id` may be a name. By the time the stream begins anew, another job may have that name too.
                        job_id = response.job.id
                        yield response.job
                        if response.job.state in ENDED and response.job.last_event <= after_event:
                            return
                # The stream ended without an error while the job still runs: the daemon is shutting down.
                again = patience.another_try()
                error = None
            except grpc.RpcError as broken:
                error = broken
                # A restarting daemon is usually back at the next try, so the first failure isn't reported.
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
                    else Unreachable(
                        f"the farm at {self.server} stopped sending the events of job {job_id}; try again"
                    )
                )

    def cancel(self, job_id: str) -> jobs_pb2.Job:
        """Cancel a job and return it. A task that is denoising stops at its next step.

        Raises:
            NotFound: There is no such job.
        """
        return self._call(self._jobs.CancelJob, jobs_pb2.CancelJobRequest(job_id=job_id)).job

    def pause(self, job_id: str) -> jobs_pb2.Job:
        """Pause a job and return it. Running tasks of the job finish, but no other task of the job starts.

        Raises:
            NotFound: There is no such job.
        """
        return self._call(self._jobs.PauseJob, jobs_pb2.PauseJobRequest(job_id=job_id)).job

    def resume(self, job_id: str) -> jobs_pb2.Job:
        """Resume a paused job and return it.

        Raises:
            NotFound: There is no such job.
        """
        return self._call(self._jobs.ResumeJob, jobs_pb2.ResumeJobRequest(job_id=job_id)).job

    def retry(self, job_id: str, only_failed: bool = False) -> jobs_pb2.RetryJobResponse:
        """Run the failed and cancelled tasks of a job again.

        Args:
            only_failed: Run only the failed tasks and the tasks that they need. Other cancelled tasks stay cancelled.

        Returns:
            The job in `.job`, and the keys of the tasks to run again in `.tasks`.

        Raises:
            NotFound: There is no such job.
        """
        request = jobs_pb2.RetryJobRequest(job_id=job_id, only_failed=only_failed)
        return self._call(self._jobs.RetryJob, request)

    def prioritise(self, job_id: str, priority: int) -> jobs_pb2.Job:
        """Change a job's priority and return the job.

        Args:
            priority: The new priority, from 0 to 100. Tasks of jobs with a higher priority run first.

        Raises:
            NotFound: There is no such job.
            InvalidSpec: The priority is out of range.
        """
        request = jobs_pb2.PrioritiseJobRequest(job_id=job_id, priority=priority)
        return self._call(self._jobs.PrioritiseJob, request).job

    def why(self, job_id: str) -> jobs_pb2.ExplainJobResponse:
        """Say why the waiting tasks of a job wait, and which of the tasks each device could take.

        Raises:
            NotFound: There is no such job.
        """
        return self._call(self._jobs.ExplainJob, jobs_pb2.ExplainJobRequest(job_id=job_id))

    def tasks(self, job_id: str, states: Sequence[jobs_pb2.TaskState] = ()) -> list[jobs_pb2.Task]:
        """Return the tasks of a job. Each task comes after the tasks that it needs.

        Args:
            states: The states of the tasks to return; empty: all states.

        Raises:
            NotFound: There is no such job.
        """
        request = tasks_pb2.ListTasksRequest(job_id=job_id, states=states)
        return list(self._call(self._tasks.ListTasks, request).tasks)

    def task(self, task: str) -> jobs_pb2.Task:
        """Return one task with its attempts.

        Args:
            task: The task's id, the beginning of its id, or "JOB/KEY".

        Raises:
            NotFound: There is no such task.
        """
        return self._call(self._tasks.GetTask, tasks_pb2.GetTaskRequest(task=task)).task

    def retry_task(self, task: str) -> tasks_pb2.RetryTaskResponse:
        """Run one failed or cancelled task again, after any unfinished tasks that it needs.

        Args:
            task: The task's id, the beginning of its id, or "JOB/KEY".

        Returns:
            The task in `.task`, and the keys of all tasks to run again in `.tasks`.

        Raises:
            NotFound: There is no such task.
        """
        return self._call(self._tasks.RetryTask, tasks_pb2.RetryTaskRequest(task=task))

    def log(
        self, task: str, epoch: int | None = None, follow: bool = False
    ) -> Iterator[jobs_pb2.Attempt | bytes]:
        """Read the log of an attempt at a task. If the daemon restarts, reading continues at the same byte.

        Args:
            task: The task's id, the beginning of its id, or "JOB/KEY".
            epoch: The number of the attempt (field `epoch` of an attempt); None: the newest attempt.
            follow: Continue until the attempt has ended.

        Yields:
            First the attempt, then the bytes of the attempt's log.

        Raises:
            NotFound: There is no such task or attempt.
            Unreachable: The farm was away for longer than `patience`.
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
                        # A newer attempt may begin meanwhile; keep reading this one.
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
        """Upload a file to the farm, with its checksum.

        Args:
            path: The file on this machine.
            progress: Called during the upload.

        Returns:
            The stored artifact.

        Raises:
            InvalidSpec: The file is empty or can't be read (field "media").
        """
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
        """Download a finished job's video. The file appears only once it is complete and its checksum is right.

        If an earlier download broke off, this one continues it.

        Args:
            path: The file to write. It must have the extension of the video's format, such as ".mp4".
            overwrite: Replace the file if it exists.
            progress: Called during the download.

        Returns:
            `path`.

        Raises:
            InvalidSpec: `path` exists, can't be written or has another extension (field "output").
            FarmError: The job has no video.
            NotFound: There is no such job.
        """
        path = Path(path)
        transfer.check_output(path, overwrite)
        job = self.job(job_id).job
        transfer.check_ending(path, self.ending(job))
        if not job.output_artifact_id:
            decoded = where_decoded(job)
            raise FarmError(
                f"job {job.id} has no video: the job {how_it_stands(job)}"
                + (f"\n{decoded}" if decoded else "")
            )
        return self._downloads().fetch(job.output_artifact_id, job.output_bytes, path, overwrite, progress)

    def ending(self, job: jobs_pb2.Job) -> str:
        """Return the extension of a job's video file, such as ".mp4"; empty if the farm doesn't know it yet."""
        if job.output_suffix or not job.output_artifact_id:
            return job.output_suffix
        # The job was submitted before the farm stored endings: its video has the ending in its name.
        found = (one.artifact for one in self.outputs(job.id).outputs)
        return next((Path(one.filename).suffix for one in found if one.id == job.output_artifact_id), "")

    def download_sidecar(self, job_id: str, path: str | Path, overwrite: bool = False) -> Path:
        """Download a finished job's sidecar: the JSON that says how the video was made.

        Like `download`, this method checks the file's checksum and continues a download that broke off.

        Args:
            path: The file to write.
            overwrite: Replace the file if it exists.

        Returns:
            `path`.

        Raises:
            InvalidSpec: `path` exists or can't be written (field "output").
            FarmError: The job has no sidecar: it hasn't succeeded, or its output format writes none.
            NotFound: There is no such job.
        """
        path = Path(path)
        transfer.check_output(path, overwrite)
        answer = self.outputs(job_id)
        found = [one.artifact for one in answer.outputs if one.artifact.name == "sidecar"]
        if not found:
            id = answer.job.id
            raise FarmError(
                f"job {id} has no sidecar (the video's JSON file); see the job's files with `farmctl job outputs {id}`"
            )
        return self._downloads().fetch(found[0].id, found[0].size, path, overwrite)

    def outputs(self, job_id: str) -> jobs_pb2.ListOutputsResponse:
        """Return a job's finished files. If the job hasn't succeeded, return its decoded segments: runs of frames.

        Raises:
            NotFound: There is no such job.
        """
        return self._call(self._jobs.ListOutputs, jobs_pb2.ListOutputsRequest(job_id=job_id))

    def download_partial(
        self, job_id: str, folder: str | Path, overwrite: bool = False, progress: Progress | None = None
    ) -> list[Path]:
        """Download the decoded frames of a job that hasn't succeeded: one video for each unbroken run of frames.

        Each video appears only once it is complete. The JSON beside it says which frames it holds.

        Args:
            folder: The folder to write to.
            overwrite: Replace files that exist.
            progress: Called during the download.

        Returns:
            The videos, in the order of their frames.

        Raises:
            InvalidSpec: A file exists or can't be written (field "output").
            FarmError: Nothing is decoded yet, or the job has succeeded.
            Damaged: The farm has lost some segments. All other frames are downloaded.
            NotFound: There is no such job.
        """
        return self._downloads().partial(self.outputs(job_id), Path(folder), overwrite, progress)

    def nodes(self) -> list[nodes_pb2.Node]:
        """Return all nodes that the farm knows."""
        return list(self._call(self._nodes.ListNodes, nodes_pb2.ListNodesRequest()).nodes)

    def node(self, node: str) -> nodes_pb2.Node:
        """Return one node, by id or name.

        Raises:
            NotFound: There is no such node.
        """
        return self._call(self._nodes.GetNode, nodes_pb2.GetNodeRequest(node=node)).node

    def drain_node(
        self, node: str, deadline: float | None = None, reason: str = "", asked_by: str = ""
    ) -> nodes_pb2.Node:
        """Start draining a node: the node gets no more work, and leaves the farm when its running tasks are done.

        The call returns at once; `node(...).drain` shows the progress.

        Args:
            node: The node's id or name.
            deadline: Seconds after which running tasks are stopped and given to other nodes; None: they finish.
            reason: Why the node is drained; shown to people.
            asked_by: Who drains the node; shown to people.

        Raises:
            NotFound: There is no such node.
        """
        request = nodes_pb2.DrainNodeRequest(
            node=node, deadline_seconds=deadline, reason=reason, asked_by=asked_by
        )
        return self._call(self._nodes.DrainNode, request).node

    def resume_node(self, node: str, device: str = "") -> nodes_pb2.ResumeNodeResponse:
        """End a node's drain and the quarantine of its devices. With `device`, end only that device's quarantine.

        Args:
            node: The node's id or name.
            device: The name of the device; empty: the whole node.

        Raises:
            NotFound: There is no such node or device.
        """
        return self._call(self._nodes.ResumeNode, nodes_pb2.ResumeNodeRequest(node=node, device=device))

    def lock_node(self, node: str, device: str = "", reason: str = "", asked_by: str = "") -> nodes_pb2.Node:
        """Lock a node or one of its devices, so that it gets no new work. Running tasks go on.

        Args:
            node: The node's id or name.
            device: The name of the device; empty: the whole node.
            reason: Why the node or device is locked; shown to people.
            asked_by: Who locks it; shown to people.

        Raises:
            NotFound: There is no such node or device.
        """
        request = nodes_pb2.LockNodeRequest(node=node, device=device, reason=reason, asked_by=asked_by)
        return self._call(self._nodes.LockNode, request).node

    def unlock_node(self, node: str, device: str = "") -> nodes_pb2.UnlockNodeResponse:
        """End all locks of a node and its devices. With `device`, end only that device's lock.

        Args:
            node: The node's id or name.
            device: The name of the device; empty: the whole node.

        Raises:
            NotFound: There is no such node or device.
        """
        return self._call(self._nodes.UnlockNode, nodes_pb2.UnlockNodeRequest(node=node, device=device))

    def forget_node(self, node: str) -> None:
        """Remove an offline or drained node from the farm's lists.

        Raises:
            NotFound: There is no such node.
        """
        self._call(self._nodes.ForgetNode, nodes_pb2.ForgetNodeRequest(node=node))

    def join_token(self) -> nodes_pb2.GetJoinTokenResponse:
        """Return the join token, and the addresses at which workstations reach the farm."""
        return self._call(self._nodes.GetJoinToken, nodes_pb2.GetJoinTokenRequest())

    def plugins(self) -> list[plugins_pb2.Plugin]:
        """Return the models, strategies, samplers, guidances and outputs that jobs may name, with their options."""
        return list(self._call(self._plugins.ListPlugins, plugins_pb2.ListPluginsRequest()).plugins)

    def presets(self, model: str = "") -> list[plugins_pb2.Preset]:
        """Return the presets that jobs may name.

        Args:
            model: The model to which the presets are adapted; empty: they aren't adapted. For a distilled model, the
                presets leave out steps, guidance, negative prompt and schedule, because the model keeps its own values.
        """
        return list(
            self._call(self._plugins.ListPresets, plugins_pb2.ListPresetsRequest(model=model)).presets
        )

    def _filled(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a spec with those of its preset, if it names one, filled in."""
        if not (name := fields.get("preset")):
            return fields
        presets = self.presets(fields.get("model") or specs.JobSpec.model_fields["model"].default)
        known = {preset.name: preset_from_message(preset) for preset in presets}
        try:
            return filled(fields, chosen(str(name), known))
        except specs.InvalidSpec as error:
            raise InvalidSpec(error.field, error.problem) from None

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
        """Check a spec, upload its local files, and return the spec as a message."""
        if spec is not None:
            # If both a spec and fields are given, the fields win.
            fields = {**spec.model_dump(exclude_unset=True), **fields}
        wanted = [
            c if isinstance(c, (specs.Condition, LocalCondition)) else LocalCondition(c) for c in conditions
        ]
        fields = self._filled(fields)
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
        """Let the farm check what only the farm knows (models, strategies, limits) before anything is uploaded."""
        bare = jobs_pb2.JobSpec()
        bare.CopyFrom(message)
        del bare.conditions[:]
        try:
            return self._planned(bare)
        except InvalidSpec as error:
            # Only with its media a job may begin below noise level 1. The farm checks that when the media are there.
            if error.field != "options" or not message.conditions:
                raise
        bare.ClearField("options")
        return self._planned(bare)

    def _planned(self, message: jobs_pb2.JobSpec) -> jobs_pb2.PlanSummary:
        request = jobs_pb2.SubmitJobRequest(spec=message, validate_only=True)
        return self._call(self._jobs.SubmitJob, request, _SUBMIT_SECONDS).plan

    def _call(
        self,
        method: Callable[..., Answer],
        request: Any,
        timeout: float | None = _READ_SECONDS,
    ) -> Answer:
        """Call the farm, and try again while it is unavailable; safe because every call here is idempotent."""
        patience, metadata = Patience(self.patience), request_metadata()
        while True:
            try:
                return method(request, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or not patience.another_try():
                    raise translate(error, self.server, self.patience) from None


def _message(spec: specs.JobSpec) -> jobs_pb2.JobSpec:
    """Return a JobSpec as the API's message."""
    fields = spec.model_dump(exclude_none=True)
    options = fields.pop("options")
    for condition in fields["conditions"]:
        condition["media"] = {key: value for key, value in condition["media"].items() if value}
    message = jobs_pb2.JobSpec(**fields)
    if options:
        message.options.update(options)
    return message
