"""docs/api.md tells the truth: what it shows runs as it stands there, made from proto/ with no package of the farm's."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from farm.wire.channels import bearer

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "api.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def exported(farmctl, tmp_path) -> Path:
    file = tmp_path / "farm.json"
    made = farmctl("client", "export", file)
    assert made.exit_code == 0, made.output
    return file


def test_the_pages_example_renders_a_video_with_nothing_but_proto(exported, tmp_path):
    folder = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "proto" / "farm", folder / "proto" / "farm")
    # Without .pth files: what is installed for development, such as the farm, is not found.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FARM_", "PYTHON"))}
    environment = kept | {
        "PYTHONPATH": os.pathsep.join(site.getsitepackages()),
        "FARM_PROFILE": str(exported),
    }
    (make,) = _blocks("sh")
    python = f'"{sys.executable}" -S'
    subprocess.run(
        ["/bin/sh", "-ec", make.replace("python", python, 1)], cwd=folder, env=environment, check=True
    )
    (folder / "client.py").write_text("".join(_blocks("python")) + "import farm; print(*farm.__path__)\n")
    done = subprocess.run(
        [sys.executable, "-S", "client.py"], cwd=folder, env=environment, capture_output=True, text=True,
        check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *told, plan, ours = done.stdout.splitlines()
    assert ours == str(folder / "farm"), "it used the farm's own package"
    assert told[-1].startswith("JOB_STATE_SUCCEEDED ") and re.fullmatch(r"the plan has \d+ tasks;.*", plan)
    assert (folder / "video.mp4").read_bytes()[4:8] == b"ftyp"


def test_each_call_of_the_page_is_one_of_the_apis():
    proto = "".join(file.read_text() for file in (ROOT / "proto" / "farm" / "v1").glob("*.proto"))
    named = set(re.findall(r"`(\w+Service)`|\b(?:jobs|artifacts)\.([A-Z]\w+)\(|`([A-Z][a-z]+Job)`", PAGE))
    names = {name for found in named for name in found if name}
    assert {"JobService", "SubmitJob", "WatchJob", "Upload", "Download"} <= names
    assert all(re.search(rf"^(service|\s*rpc) {name}\b", proto, re.MULTILINE) for name in names)


def test_reflection_tells_the_calls_to_whoever_has_the_token(exported):
    profile = json.loads(exported.read_text())
    # No other name than the address that is dialled, which is in the certificate.
    trust = grpc.ssl_channel_credentials(profile["ca"].encode())
    with grpc.secure_channel(profile["server"], trust, [("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # its calls have no types
        ask = [reflection_pb2.ServerReflectionRequest(list_services="")]
        (answer,) = stub.ServerReflectionInfo(iter(ask), metadata=bearer(profile["token"]), timeout=20)
        found = {service.name for service in answer.list_services_response.service}
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.ServerReflectionInfo(iter(ask), timeout=20))
    assert {"farm.v1.JobService", "farm.v1.ArtifactService", "grpc.health.v1.Health"} <= found
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
