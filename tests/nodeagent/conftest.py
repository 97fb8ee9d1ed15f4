"""Real agents and renderers as processes, with one throw-away plugin installed and the built-in ones not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_farm import SmallFarm

HERE = Path(__file__).parent
WEIGHTS = hashlib.sha256(b"one").hexdigest()

HIDE_BUILT_INS = """
import importlib.metadata as metadata
every = metadata.distributions
metadata.distributions = lambda **k: (d for d in every(**k) if d.metadata["Name"] != "ltx-farm")
"""


def until(true: Callable[[], object], seconds: float = 15.0, what: str = "") -> None:
    """Wait for something to come true; fails saying what didn't."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, f"never: {what or true}"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> dict[str, str]:
    """Environment in which the throw-away plugin is an installed package."""
    site = tmp_path_factory.mktemp("site")
    for name in ("throwaway_planning.py", "throwaway_rendering.py"):
        shutil.copy(HERE / name, site)
    (site / "sitecustomize.py").write_text(HIDE_BUILT_INS)
    information = site / "throwaway-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: throwaway\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[farm.planning]\nthrowaway = throwaway_planning\n[farm.rendering]\nthrowaway = throwaway_rendering\n"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FARM_")}
    return kept | {"PYTHONPATH": str(site)}


@pytest.fixture
def farm(tmp_path):
    farm = SmallFarm(tmp_path / "farm").start()
    yield farm
    farm.close()


class Agent:
    """A farm-node process."""

    def __init__(self, farm: SmallFarm, home: Path, environment: dict[str, str], *options: str):
        self.farm, self.home = farm, home
        self.log = home.with_suffix(".log")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nodeagent.agent", "--home", str(home), "--threads", "1", *options],
            env=environment,
            stderr=self.log.open("a"),
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


class RendererProcess:
    """A renderer of the device "cpu" and what it is told to run."""

    def __init__(self, home: Path, environment: dict[str, str]):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "renderer_process.py"), "cpu"],
            env=environment
            | {"FARM_AGENT_SOCKET": str(home / "run" / "renderer.sock"), "FARM_AGENT_HOME": str(home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = int(self.process.stdout.readline())

    def run(
        self, attempt_id: str, kind: str = "window", inputs=None, epoch: int = 1, weights=WEIGHTS, **payload
    ):
        shared = {
            "model": "counter", "weights": weights, "precision": "fp32", "prompt": "a whale", "seed": 7,
            "width": 4, "height": 2, "frames": 5, "fps": "30000/1001", "output": "raw",
        }  # fmt: skip
        task = {"key": f"{kind}/0", "kind": kind, "payload": payload}
        document = {"task": task, "shared": shared, "inputs": inputs or {}}
        call = {"attempt_id": attempt_id, "epoch": epoch, "payload": document}
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()

    def returned(self) -> dict:
        return json.loads(self.process.stdout.readline())

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)


@pytest.fixture
def start_agent(farm, tmp_path, environment):
    agents: list[Agent] = []

    def start(*options: str, home: Path = tmp_path / "node", wait: bool = True) -> Agent:
        options = options or ("--server", farm.server, "--join-token", farm.join_token)
        before = len(farm.hellos)
        agents.append(Agent(farm, home, environment, *options))
        if wait:
            until(lambda: len(farm.hellos) > before, what=f"hello; see {agents[-1].log}")
        return agents[-1]

    yield start
    for agent in agents:
        if agent.process.poll() is None:
            agent.kill()
        sys.stdout.write(agent.log.read_text())


@pytest.fixture
def start_renderer(farm, tmp_path, environment):
    renderers: list[RendererProcess] = []

    def start(home: Path = tmp_path / "node") -> RendererProcess:
        renderers.append(RendererProcess(home, environment))
        until(lambda: any(report.alive for report in farm.reports), what="renderer attached")
        return renderers[-1]

    yield start
    for renderer in renderers:
        renderer.process.kill()
        renderer.process.wait()
