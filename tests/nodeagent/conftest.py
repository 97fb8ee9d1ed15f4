"""Real agents and renderers as processes, with one throw-away plugin installed and the built-in ones not."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.nodeagent.node_processes import Agent, RendererProcess, until
from tests.nodeagent.small_farm import SmallFarm
from tests.pythons import python_with

HERE = Path(__file__).parent

HIDE_BUILT_INS = """
import importlib.metadata as metadata
every = metadata.distributions
metadata.distributions = lambda **k: (d for d in every(**k) if d.metadata["Name"] != "ltx-farm")
"""


@pytest.fixture(scope="session")
def python(tmp_path_factory) -> str:
    """A Python in which the throw-away plugin is an installed package, and this checkout goes before one that is."""
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
    return python_with(tmp_path_factory.mktemp("python"), site, HERE.parent.parent)


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> dict[str, str]:
    """This one, without settings of the farm and folders of the compiler."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FARM_", "TORCHINDUCTOR_"))}
    # Weights of its own: another worker's agents write theirs at any moment.
    return kept | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture
def farm(tmp_path):
    farm = SmallFarm(tmp_path / "farm").start()
    yield farm
    farm.close()


@pytest.fixture
def start_agent(farm, tmp_path, python, environment):
    agents: list[Agent] = []

    def start(*options: str, home: Path = tmp_path / "node", wait: bool = True, **more) -> Agent:
        options = options or ("--server", farm.server, "--join-token", farm.join_token)
        before = len(farm.hellos)
        agents.append(Agent(farm, home, python, environment, *options, **more))
        if wait:
            until(lambda: len(farm.hellos) > before, what=f"hello; see {agents[-1].log}")
        return agents[-1]

    yield start
    for agent in agents:
        if agent.process.poll() is None:
            agent.kill()
        sys.stdout.write(agent.log.read_text())


@pytest.fixture
def node(start_agent, start_renderer) -> tuple[Agent, RendererProcess]:
    """An agent and the renderer of its device, attached."""
    return start_agent(), start_renderer()


@pytest.fixture
def start_renderer(farm, tmp_path, python, environment):
    renderers: list[RendererProcess] = []

    def start(home: Path = tmp_path / "node") -> RendererProcess:
        renderers.append(RendererProcess(home, python, environment))
        until(lambda: any(report.alive for report in farm.reports), what="renderer attached")
        return renderers[-1]

    yield start
    for renderer in renderers:
        renderer.process.kill()
        renderer.process.wait()
