"""The actor's code on a node that has another version of the farm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ray import cloudpickle

from scheduler.dispatch.ray import _bridge_actor
from scheduler.dispatch.ray._bridge_renderers import RendererActors
from scheduler.dispatch.ray.backend import RENDERERS

ON_THE_NODE = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
for name in ("farm", "farmd", "scheduler", "renderer"):
    sys.modules[name] = None  # not installed
actor = pickle.load(sys.stdin.buffer)(tuple(sys.argv[2:]), "cpu0")
actor.run("a1", 3, b"{}")
"""


def test_a_node_of_the_version_before_needs_none_of_todays_modules_to_begin_a_renderer(
    tmp_path: Path,
) -> None:
    package = tmp_path / "nodeagent"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "renderer.py").write_text(
        "class Renderer:\n"
        "    def __init__(self, device, peers): self.device = device\n"
        "    def run(self, *call): print(self.device, *call)\n"
    )
    RendererActors(RENDERERS, lambda *_: None)
    code = cloudpickle.dumps(_bridge_actor.RendererActor)
    command = [sys.executable, "-c", ON_THE_NODE, str(tmp_path), *RENDERERS]
    done = subprocess.run(command, check=False, input=code, capture_output=True, cwd=tmp_path, timeout=60)
    assert done.stdout.decode().split() == ["cpu0", "a1", "3", "b'{}'"], done.stderr.decode()


@pytest.mark.parametrize("text", ["import not_there", "from broken_renderer import not_there"])
def test_what_is_wrong_with_a_renderer_that_is_there_is_told(tmp_path, monkeypatch, text):
    (tmp_path / "broken_renderer.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_renderer", raising=False)
    with pytest.raises(ImportError, match="not_there"):
        _bridge_actor._first(("broken_renderer:Renderer", "small_renderer:SmallRenderer"))
