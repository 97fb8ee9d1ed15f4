"""A TLS gRPC server with the farm's API that misbehaves on demand."""

from __future__ import annotations

import hashlib
import threading
from concurrent import futures

import grpc

from farm.client import FarmClient
from farm.v1 import (
    artifacts_pb2,
    artifacts_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    nodes_pb2,
    nodes_pb2_grpc,
)
from farm.wire.channels import SERVER_OPTIONS, bearer_token
from farm.wire.security import Authority

VIDEO = bytes(range(256)) * 12_000  # three chunks
FIELDS = {"frames": 100, "width": 64, "height": 64}


class FarmOnDemand(
    jobs_pb2_grpc.JobServiceServicer,
    artifacts_pb2_grpc.ArtifactServiceServicer,
    nodes_pb2_grpc.NodeServiceServicer,
):
    """Keeps jobs and uploads in memory; what goes wrong next is queued in `faults`."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.port = 0
        self.jobs: dict[str, jobs_pb2.Job] = {}
        self.submits: list[jobs_pb2.SubmitJobRequest] = []
        self.uploads: dict[str, bytes] = {}
        self.offsets: list[int] = []
        self.watches: list[int] = []
        self.faults: list[str] = []
        self.events = 3
        self.video = VIDEO
        self.server: grpc.Server | None = None

    def start(self) -> None:
        self.server = grpc.server(futures.ThreadPoolExecutor(8), options=SERVER_OPTIONS)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(self, self.server)
        artifacts_pb2_grpc.add_ArtifactServiceServicer_to_server(self, self.server)
        nodes_pb2_grpc.add_NodeServiceServicer_to_server(self, self.server)
        self.port = self.server.add_secure_port(f"127.0.0.1:{self.port}", self.authority.server_credentials())
        assert self.port
        self.server.start()

    def stop(self) -> None:
        assert self.server is not None, "it was not started"
        self.server.stop(0).wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self, patience: float = 5.0, token: str | None = None) -> FarmClient:
        return FarmClient(self.address, self.authority.ca_pem, token or self.authority.client_token, patience)

    def _fault(self) -> str:
        return self.faults.pop(0) if self.faults else ""

    def SubmitJob(self, request, context):
        fault = self._fault()
        if fault == "refuse":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "model: must be one of ltx-tiny, got 'x'")
        if request.validate_only:
            return jobs_pb2.SubmitJobResponse(
                plan=jobs_pb2.PlanSummary(strategy="hierarchical", output_suffix=".mp4")
            )
        self.submits.append(request)
        existing = request.idempotency_key in self.jobs
        job = self.jobs.setdefault(
            request.idempotency_key, jobs_pb2.Job(id=f"job{len(self.jobs)}", spec=request.spec)
        )
        if fault == "unavailable after storing":
            context.abort(grpc.StatusCode.UNAVAILABLE, "the daemon went away")
        if fault == "internal":
            context.abort(grpc.StatusCode.INTERNAL, "disk full")
        return jobs_pb2.SubmitJobResponse(job=job, existing=existing)

    def GetJob(self, request, context):
        if request.job_id == "none":
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no job 'none'")
        if bearer_token(context.invocation_metadata()) != self.authority.client_token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "a client token is needed")
        unfinished = request.job_id == "unfinished"
        return jobs_pb2.GetJobResponse(
            job=jobs_pb2.Job(
                id=request.job_id,
                state=jobs_pb2.JOB_STATE_RUNNING if unfinished else jobs_pb2.JOB_STATE_SUCCEEDED,
                output_artifact_id="" if unfinished else "video",
                output_bytes=len(self.video),
                output_suffix="" if request.job_id == "old" else ".mp4",
            )
        )

    def ListOutputs(self, request, context):
        video = artifacts_pb2.Artifact(id="video", name="video", filename="video.mp4")
        return jobs_pb2.ListOutputsResponse(outputs=[jobs_pb2.Output(artifact=video)])

    def WatchJob(self, request, context):
        self.watches.append(request.after_event)
        fault = self._fault()
        for number in range(request.after_event + 1, self.events + 1):
            yield jobs_pb2.WatchJobResponse(event=jobs_pb2.JobEvent(number=number))
            if fault == "break":
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
            if fault == "end politely":
                return
            if fault == "stay":
                over = threading.Event()
                context.add_callback(over.set)
                over.wait(10)
        yield jobs_pb2.WatchJobResponse(
            job=jobs_pb2.Job(id=request.job_id, state=jobs_pb2.JOB_STATE_SUCCEEDED, last_event=self.events)
        )

    def Upload(self, request_iterator, context):
        header = next(request_iterator).header
        content = b"".join(request.chunk for request in request_iterator)
        if self._fault() == "unavailable":
            context.abort(grpc.StatusCode.UNAVAILABLE, "the daemon went away")
        assert (len(content), hashlib.sha256(content).hexdigest()) == (header.size, header.sha256)
        self.uploads[header.filename] = content
        return artifacts_pb2.UploadResponse(artifact=artifacts_pb2.Artifact(id=f"id of {header.filename}"))

    def Download(self, request, context):
        self.offsets.append(request.offset)
        fault = self._fault()
        yield artifacts_pb2.DownloadResponse(
            artifact=artifacts_pb2.Artifact(
                id="video", size=len(self.video), sha256=hashlib.sha256(self.video).hexdigest()
            )
        )
        for start in range(request.offset, len(self.video), 2**20):
            chunk = self.video[start : start + 2**20]
            if fault == "flip":
                chunk = b"?" + chunk[1:]
            yield artifacts_pb2.DownloadResponse(chunk=chunk)
            if fault == "break":
                context.abort(grpc.StatusCode.UNAVAILABLE, "going down")

    def ListNodes(self, request, context):
        return nodes_pb2.ListNodesResponse(nodes=[nodes_pb2.Node(name="a")])
