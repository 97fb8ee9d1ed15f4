"""What a renderer or an agent leaves that was killed goes at the next start; what is in use stays."""

from __future__ import annotations

import hashlib

import pytest

from farm.handed import HandedArtifact
from farm.rendering import Stopped
from farm.v1 import artifacts_pb2, nodes_pb2, renderers_pb2
from renderer.transfer import Cache, Wire
from renderer.work_folder import clear
from tests.nodeagent.node_processes import until

CONTENT = b"latents"
ARTIFACT = HandedArtifact("a-1", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("begun")


def test_an_agent_keeps_what_a_renderer_has_in_hand_and_removes_the_rest(tmp_path):
    kept = ["work/cpu/x-1-2/latents", "cache/cpu/.abc.part", "cache/cuda:0/whole", "cache/torch/kernel"]
    left = [
        "work/cpu/x-1-1/latents",
        "work/cpu/.trial",
        "work/gone/x-9-1/deep/latents",
        "cache/gone/.abc.part",
    ]
    for name in kept + left:
        write(tmp_path / name)
    (tmp_path / "outside").mkdir()
    write(tmp_path / "outside" / "mine")
    (tmp_path / "work" / "cpu" / "link").symlink_to(tmp_path / "outside")
    held = [(nodes_pb2.AttemptRef(attempt_id="x-1", epoch=2), "cpu")]
    assert clear(tmp_path, held) == len(left) + 1
    assert files(tmp_path) == sorted([*kept, "outside/mine"])
    assert clear(tmp_path, held) == 0
    assert clear(tmp_path / "new", []) == 0


class Fetching(Wire):
    """Fetches what a test gives; what comes before an error stays on the disk as of a broken stream."""

    def __init__(self, *answers):
        super().__init__(renderers_pb2.Setup(), lambda seconds: None)
        self.answers = list(answers)

    def _persist(self, what, work):
        answer = self.answers.pop(0)

        class Stub:
            def Download(self, request):
                yield artifacts_pb2.DownloadResponse(chunk=CONTENT[:3] if answer is not True else CONTENT)
                if answer is not True:
                    raise answer

        return work(Stub())


@pytest.mark.parametrize(
    "error", [Stopped("it has to go"), OSError(28, "No space left on device"), KeyboardInterrupt()]
)
def test_an_input_that_is_not_fetched_to_its_end_leaves_nothing(tmp_path, error):
    cache = Cache(tmp_path / "cache")
    wire = Fetching(error, True)
    with pytest.raises(type(error)):
        cache.get(ARTIFACT, wire)
    assert files(tmp_path) == []
    assert cache.get(ARTIFACT, wire).read_bytes() == CONTENT
    assert files(tmp_path) == [f"cache/{ARTIFACT.sha256}"]


def test_the_next_agent_removes_the_files_of_a_killed_renderer_and_agent(
    farm, start_agent, start_renderer, tmp_path
):
    agent, renderer = start_agent(), start_renderer()
    work = tmp_path / "node" / "work"
    renderer.run("a", steps=100, sleep=0.1)
    until(lambda: farm.steps("a"), what="a step")
    assert [path.name for path in work.glob("*/*")] == ["a-1"]
    agent.kill()
    second = start_agent()
    assert [path.name for path in work.glob("*/*")] == ["a-1"], "its renderer is still at work there"
    renderer.kill()
    until(lambda: farm.ended("a"), what="word of its death")
    second.kill()
    start_agent()
    assert not list(work.glob("*/*"))
