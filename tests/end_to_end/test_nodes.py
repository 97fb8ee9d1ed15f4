"""What nodes offer decides what they are given, and a waiting task says what for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from farm.v1 import jobs_pb2, nodes_pb2, nodes_pb2_grpc
from farm.wire.channels import channel
from farm.wire.profile import Profile
from tests.asserting import details_of
from tests.farm_under_test import FarmUnderTest, eventually


@pytest.fixture
def wire(farm):
    """A channel with the client token."""
    profile = Profile.load(farm.home / "client.json")
    with channel(profile.server, profile.ca_pem, profile.token) as opened:
        yield opened


def _waits_for(farm, job_id, words):
    def look():
        with farm.client as client:
            reasons = [t.reason for t in client.job(job_id).tasks if t.state == jobs_pb2.TASK_STATE_READY]
        return any(words in reason for reason in reasons) and reasons

    return eventually(f"a task waits because {words!r}", look, 60)


def _joined(farm, name):
    """Nodes by name, that one among them; its renderer may still be starting."""

    def look():
        with farm.client as client:
            nodes = {node.name: node for node in client.nodes()}
        return name in nodes and nodes[name].models and nodes

    return eventually(f"{name} joins", look)


def test_a_task_too_large_for_every_device_waits_and_says_so(tmp_path_factory):
    large: dict[str, Any] = {"frames": 49, "width": 1024, "height": 576, "fps": 30.0}
    farm = FarmUnderTest(tmp_path_factory.mktemp("small"))
    try:
        farm.start_daemon()
        farm.start_node("toy", toml='[[device]]\nname = "small"\nvram = "64MiB"\n')
        farm.wait_for_renderers("toy")
        with farm.client as client:
            dry = client.plan(**large)
            assert not dry.plan.fitting_devices and not dry.plan.HasField("estimated_seconds")
        job_id = farm.submit(**large)
        (reason,) = _waits_for(farm, job_id, "of memory, the task needs")
        assert "toy/small has 0.1 GiB" in reason
        with farm.client as client:
            tasks = {task.key: task for task in client.job(job_id).tasks}
        assert tasks["encode"].attempts and not tasks["window/0"].attempts, "what fits is done"
    finally:
        farm.close()


def test_a_dry_run_tells_windows_devices_time_and_disk_and_stores_nothing(farm):
    with farm.client as client:
        before = len(client.jobs())
        plan = client.plan(frames=250, width=128, height=96, fps=30.0).plan
        assert len(client.jobs()) == before
    assert sum(task.kind == "window" for task in plan.tasks) == 3
    assert sorted(plan.fitting_devices) == ["north/cpu", "south/cpu"]
    assert plan.estimated_seconds > 0 and plan.estimated_bytes > 100_000


def test_a_declared_device_is_marked_and_the_others_are_not(farm):
    farm.start_node("trial", toml='[[device]]\nname = "toy"\nvram = "24GiB"\nfp8 = true\n')
    try:
        nodes = {name: node.devices[0].device for name, node in _joined(farm, "trial").items()}
        assert nodes["trial"].declared and nodes["trial"].fp8 and nodes["trial"].vram_bytes == 24 * 2**30
        assert not nodes["north"].declared and not nodes["north"].fp8
        listed = subprocess.run(
            [sys.executable, "-m", "farm.cli", "--profile", farm.home / "client.json", "node", "list"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "declared" in next(line for line in listed.splitlines() if "toy" in line)
    finally:
        farm.stop_node("trial")


def test_a_node_with_other_weights_is_refused_the_job_with_a_message(tmp_path_factory, tiny_folder):
    stale = tmp_path_factory.mktemp("stale") / "ltx-tiny"
    shutil.copytree(tiny_folder, stale)
    config = json.loads((stale / "scheduler" / "scheduler_config.json").read_text())
    (stale / "scheduler" / "scheduler_config.json").write_text(json.dumps({**config, "stale": True}))
    farm = FarmUnderTest(tmp_path_factory.mktemp("pinned"))
    try:
        (farm.home / "farm.toml").write_text('[models.ltx-tiny]\nweights = "sha256:%s"\n' % ("c" * 64))
        farm.start_daemon()
        farm.start_node("stale", toml=f'[models]\nltx-tiny = "{stale}"\n')
        _joined(farm, "stale")
        job_id = farm.submit(frames=9, width=64, height=64)
        (reason,) = _waits_for(farm, job_id, "other weights of ltx-tiny")
        assert "stale/cpu" in reason and "cccccccccccc" in reason
        with farm.client as client:
            assert not any(task.attempts for task in client.job(job_id).tasks)
    finally:
        farm.close()


def test_a_node_of_another_protocol_is_told_which_version_to_install(farm, wire):
    request = nodes_pb2.RegisterRequest(
        join_secret=_secret(farm), node_id="n" * 32, name="old", version="0.0.1", protocol=0
    )
    with pytest.raises(grpc.RpcError) as refused:
        nodes_pb2_grpc.NodeServiceStub(wire).Register(request)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "this node runs ltx-farm 0.0.1 (protocol 0)" in details_of(refused.value)
    assert "install ltx-farm" in details_of(refused.value)


def test_a_join_secret_that_is_not_this_farms_is_refused(wire):
    request = nodes_pb2.RegisterRequest(join_secret="guess", node_id="n" * 32, name="thief", protocol=1)
    with pytest.raises(grpc.RpcError) as refused:
        nodes_pb2_grpc.NodeServiceStub(wire).Register(request)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_health_and_reflection_answer(wire):
    # Their types name no calls.
    health: Any = health_pb2_grpc.HealthStub(wire)
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(wire)
    status = health.Check(health_pb2.HealthCheckRequest(service="farm.v1.JobService"))
    assert status.status == health_pb2.HealthCheckResponse.SERVING
    ask = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (answer,) = reflection.ServerReflectionInfo(ask)
    names = {service.name for service in answer.list_services_response.service}
    assert {"farm.v1.JobService", "farm.v1.NodeService", "farm.v1.ArtifactService"} <= names


def _secret(farm) -> str:
    from farm.wire.security import Authority

    return Authority.open(farm.home).join_secret
