"""The service files, which systemd takes and which leave an agent its time to end; and the image."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from farm.config import NodeConfig

ROOT = Path(__file__).parent.parent
UNITS = ROOT / "packaging" / "systemd"


def service(name: str) -> configparser.SectionProxy:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string((UNITS / name).read_text())
    return unit["Service"]


@pytest.mark.parametrize("name", ["farm-daemon.service", "farm-agent.service"])
def test_systemd_finds_nothing_wrong(name, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("NOT VERIFIED: there is no systemd-analyze")
    # It insists that programs exist.
    text = (UNITS / name).read_text()
    for program in ("farmd", "farm-node"):
        text = text.replace(f"/opt/ltx-farm/bin/{program}", sys.executable)
    (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stopped_agent_is_told_alone_and_has_time_to_hand_back_what_it_runs():
    from nodeagent import agent, membership

    said = service("farm-agent.service")
    assert (said["KillMode"], said["KillSignal"]) == ("process", "SIGTERM")
    needed = NodeConfig().drain_deadline + agent._STOP_SECONDS + agent._GOODBYE_SECONDS
    # After its time is up the raylet is killed within as long again.
    needed += 2 * membership._RAYLET_SECONDS + 5.0
    assert float(said["TimeoutStopSec"]) > needed


def test_the_user_of_a_service_who_has_no_home_has_a_folder_for_models():
    said = service("farm-agent.service")
    assert said["Environment"] == f"XDG_CACHE_HOME=/var/cache/{said['CacheDirectory']}"
    assert said["CacheDirectoryMode"] == "0700"


def test_a_restarted_daemon_leaves_ray_to_its_successor():
    assert service("farm-daemon.service")["KillMode"] == "process"


def test_the_image_has_every_package_of_both_distributions():
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert {"pyproject.toml", "packaging", "farm", *said["packages"]} <= copied
