"""A client on another machine needs the distribution ltx-farm-client and one file."""

from __future__ import annotations

import json

import pytest

from farm.wire.profile import Profile
from tests.farm.cli.runs import run


def test_one_file_makes_a_client_wherever_it_lies(farmctl, home, tmp_path):
    file = tmp_path / "laptop.json"
    exported = farmctl("client", "export", file)
    assert exported.exit_code == 0, exported.output
    port = json.loads(file.read_text())["server"].rpartition(":")[2]
    assert "other machines can't reach this farm" in exported.output
    assert f"farmctl up --listen 0.0.0.0:{port}`" in exported.output
    token = (home / "tls" / "client.token").read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600 and token not in exported.output
    assert (
        set(json.loads(file.read_text())) == {"server", "ca", "token"} and Profile.load(file).token == token
    )
    listed = run(tmp_path / "nothing", "--profile", file, "node", "list")
    assert listed.returncode == 0 and "trial" in listed.stdout, listed.stderr


def test_a_file_that_is_there_is_replaced_on_demand_alone(farmctl, tmp_path):
    file = tmp_path / "laptop.json"
    file.write_text("mine")
    refused = farmctl("client", "export", file)
    assert refused.exit_code == 2 and "--overwrite" in refused.output and file.read_text() == "mine"
    assert farmctl("client", "export", file, "--overwrite").exit_code == 0
    assert Profile.load(file).server
    refused = farmctl("client", "export", tmp_path)
    assert refused.exit_code == 2 and "is a folder" in refused.output


def test_standard_output_gets_the_file_and_nothing_else(farmctl, home):
    exported = farmctl("client", "export", "-", "--server", "farm.studio:7433")
    assert exported.exit_code == 0
    assert json.loads(exported.output)["server"] == "farm.studio:7433"
    refused = farmctl("client", "export", "-", "--server", "farm.studio")
    assert refused.exit_code == 1 and "--server: must be HOST:PORT" in refused.output


@pytest.fixture(scope="module")
def client_farmctl(home, client_alone):
    """Call farmctl of the client's environment on the farm, which must succeed. Returns what it prints."""

    def call(*arguments: object) -> str:
        done = client_alone.run("farmctl", "--profile", home / "client.json", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.fixture(scope="module")
def job(client_farmctl, clip, tmp_path_factory) -> str:
    """The name of a job whose video is here."""
    video = tmp_path_factory.mktemp("videos") / "shot.mp4"
    size = ("--size", "64x64", "--fps", "30", "--prompt", "a red ball")
    client_farmctl(
        "submit", "extend", clip, "--frames", 17, *size, "--name", "client-alone", "--wait", "-o", video
    )
    assert video.stat().st_size > 0
    return "client-alone"


@pytest.mark.parametrize(
    "line", ["job list", "job show {}", "job why {}", "job outputs {}", "job watch {}", "task list {}", "task show {}/encode",
             "task logs {}/encode", "node list", "node enroll", "client export client.json", "config example", "config example --node"],
)  # fmt: skip
def test_a_verb_that_talks_to_a_farm_works_with_the_client_alone(client_farmctl, job, line):
    client_farmctl(*line.format(job).split())
