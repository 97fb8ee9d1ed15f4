"""Whatever text comes in by the API is stored or refused by its field; nothing of it makes the daemon fail."""

from __future__ import annotations

import hashlib

import grpc
import pytest

from farm.spec import InvalidSpec
from farm.v1 import artifacts_pb2, artifacts_pb2_grpc, jobs_pb2, jobs_pb2_grpc, nodes_pb2, nodes_pb2_grpc
from farm.wire.channels import bearer, channel
from farm.wire.profile import Profile
from farmd.api.gate import refuse_nul
from tests.asserting import details_of

NUL = "a\x00b"


@pytest.fixture
def calls(daemon):
    """A channel of a client's, and what it shows at the gate."""
    profile = Profile.find(daemon.home / "client.json", {})
    with channel(daemon.address, profile.ca_pem, "") as open_channel:
        yield open_channel, bearer(profile.token)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (jobs_pb2.SubmitJobRequest(spec=jobs_pb2.JobSpec(prompt=NUL)), "prompt"),
        (
            jobs_pb2.SubmitJobRequest(spec=jobs_pb2.JobSpec(later_prompts=[{"text": NUL}])),
            "later_prompts.0.text",
        ),
        (jobs_pb2.SubmitJobRequest(idempotency_key=NUL), "idempotency_key"),
        (jobs_pb2.GetJobRequest(job_id=NUL), "job_id"),
        (nodes_pb2.LockNodeRequest(reason=NUL), "reason"),
    ],
)
def test_nul_is_refused_by_the_name_of_its_field(request_, field):
    with pytest.raises(InvalidSpec, match=rf"^{field}: must not contain NUL"):
        refuse_nul(request_)


def test_every_call_passes_that_gate(calls):
    open_channel, metadata = calls
    with pytest.raises(grpc.RpcError) as refused:
        jobs_pb2_grpc.JobServiceStub(open_channel).GetJob(
            jobs_pb2.GetJobRequest(job_id=NUL), metadata=metadata
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "job_id: must not contain NUL characters, but has one at position 2" in details_of(refused.value)
    with pytest.raises(grpc.RpcError) as refused:
        nodes_pb2_grpc.NodeServiceStub(open_channel).GetNode(
            nodes_pb2.GetNodeRequest(node=NUL), metadata=metadata
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "name", ["..", ".", "/", "x" * 4000 + ".mp4", "a\x00\x1b[2J.mp4", "é" * 300, "a/../../b.mp4"]
)
def test_a_file_of_any_name_is_taken_and_comes_back(daemon, calls, name):
    open_channel, metadata = calls
    content = b"frames"
    header = artifacts_pb2.UploadHeader(
        name="media", size=len(content), sha256=hashlib.sha256(content).hexdigest(), filename=name
    )
    messages = [artifacts_pb2.UploadRequest(header=header), artifacts_pb2.UploadRequest(chunk=content)]
    stub = artifacts_pb2_grpc.ArtifactServiceStub(open_channel)
    taken = stub.Upload(iter(messages), metadata=metadata, timeout=20).artifact
    assert 0 < len(taken.filename.encode()) <= 120 and taken.filename.isprintable()
    got = stub.Download(artifacts_pb2.DownloadRequest(artifact_id=taken.id), metadata=metadata)
    assert b"".join(part.chunk for part in got) == content
    assert not daemon.files.trouble


def test_an_error_of_any_length_and_content_reaches_its_caller(calls, daemon):
    open_channel, metadata = calls
    name = "\x1b[2J" + "é\n" * 20_000
    with pytest.raises(grpc.RpcError) as refused:
        jobs_pb2_grpc.JobServiceStub(open_channel).GetJob(
            jobs_pb2.GetJobRequest(job_id=name), metadata=metadata
        )
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    details = details_of(refused.value)
    assert "there is no job" in details and "\x1b" not in details
