"""What a job has delivered, and what can be had of one that hasn't: real services, files and ffmpeg; a test plays the node."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from farm.cli import main
from farm.client import FarmError, InvalidSpec, NotFound, delivery
from farm.client.errors import Damaged
from farm.media.clips import probe, read_frames
from farm.plan import Payload
from farm.policy.retention import Keeping
from farm.v1 import artifacts_pb2, jobs_pb2
from farmd.collecting import collect
from plugins.outputs.mp4 import encode_segment, join_segments
from tests.farm.cli.runs import variables
from tests.farm.small_daemon import NODE
from tests.farm.store.store_world import dispatch, finish, plan, spec

KEEPING = Keeping(seconds=14 * 86_400, max_bytes=10**9)
SIZE = {"width": 64, "height": 48}
FPS = 30000 / 1001
FRAMES, LEAD = 40, 3
"""The job renders three frames before its first and delivers 40, in four spans of 10."""

GRAPH: dict[str, list[str]] = {"encode": []} | {f"decode/{i}": ["encode"] for i in range(4)}
GRAPH["mux"] = [key for key in GRAPH if key != "encode"]


@pytest.fixture
def farmctl(daemon):
    """Calls farmctl on the daemon without Ray."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments], env=variables(daemon.home))

    return call


@pytest.fixture(scope="module")
def segments(tmp_path_factory) -> dict[str, bytes]:
    """What each decode makes: frames whose brightness is their number."""
    folder, made = tmp_path_factory.mktemp("segments"), {}
    for index in range(4):
        numbers = range(10 * index, 10 * index + 10)
        frames = [np.full((48, 64, 3), 20 + 5 * number, np.uint8) for number in numbers]
        encode_segment(frames, folder / "segment.mp4", 64, 48, Fraction(30000, 1001))
        made[f"decode/{index}"] = (folder / "segment.mp4").read_bytes()
    return made


def numbers(video: Path) -> list[int]:
    """Which frames a video holds."""
    frames = read_frames(video, 64, 48, Fraction(30000, 1001))
    return [round((frame.mean() - 20) / 5) for frame in frames]


class Shot:
    """A job with real segments, done by a node that the test plays."""

    def __init__(self, daemon, node, segments: dict[str, bytes], output: str = "mp4", told=True):
        self._store, self._node, self.segments = daemon.store, node, segments
        graph = plan(GRAPH, shared={"lead": LEAD, "output_suffix": ".mp4"} if told else {"lead": LEAD})
        tasks = [
            replace(task, payload=Payload({"from": LEAD + 10 * index, "to": LEAD + 10 * index + 10}))
            for index, task in enumerate(graph.tasks[1:-1])
        ]
        asked = spec(frames=FRAMES, fps=FPS, output=output, name="[red] shot", **SIZE)
        graph = replace(graph, tasks=(graph.tasks[0], *tasks, graph.tasks[-1]))
        self.job, _ = daemon.store.jobs.submit(asked, graph)
        self.id = self.job.id
        finish(daemon.store, dispatch(daemon.store, self.job, "encode", node_id=NODE))

    def decode(self, *indices: int) -> None:
        for index in indices:
            attempt = dispatch(self._store, self.job, f"decode/{index}", node_id=NODE)
            self.deliver(attempt, segment=self.segments[f"decode/{index}"])

    def deliver(self, attempt, facts=None, /, **made: bytes) -> None:
        ids = []
        for name, content in made.items():
            filename = f"{name}{'.json' if name == 'sidecar' else '.mp4'}"
            ids.append(self._node.upload(attempt, name, content, filename).id)
        assert self._store.attempts.succeed(
            attempt.id, attempt.epoch, ids, seconds=1.0, facts=facts
        ).committed

    def fail(self, key: str) -> None:
        attempt = dispatch(self._store, self.job, key, node_id=NODE)
        self._store.attempts.fail(attempt.id, attempt.epoch, "Traceback\nValueError: poison")


@pytest.fixture
def shot(daemon, node, segments):
    return Shot(daemon, node, segments)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_job_delivers_each_unbroken_run_of_what_was_decoded(daemon, client, shot, tmp_path):
    shot.decode(3, 0, 1)
    shot.fail("decode/2")
    collect(daemon.store, daemon.files, KEEPING)
    assert client.job(shot.id).job.state == jobs_pb2.JOB_STATE_FAILED
    first, second = client.download_partial(shot.id, tmp_path)
    assert (numbers(first), numbers(second)) == (list(range(20)), list(range(30, 40)))
    assert first.name == f"{shot.id}-frames-00-19-partial.mp4"
    assert second.name == f"{shot.id}-frames-30-39-partial.mp4"
    assert probe(first).fps == Fraction(30000, 1001)
    told = json.loads(second.with_suffix(".json").read_text())
    error = told.pop("error")
    assert "ValueError: poison; its log: `farmctl task logs" in error and "\n" not in error
    assert told == {
        "partial": True, "job": shot.id, "name": "[red] shot", "state": "failed",
        "first_frame": 30, "last_frame": 39, "frames": 10, "of_frames": 40,
    }  # fmt: skip
    assert len(names(tmp_path)) == 4 + 1, "two videos, their descriptions, and the farm's home"


def test_what_is_told_of_a_job_lies_beside_what_is_decoded_of_it(daemon, client, shot, tmp_path):
    note = "the image at frame 3 of the video differs from what the model rendered there (PSNR 21 dB; the farm reports values below 22 dB)"
    attempt = dispatch(daemon.store, shot.job, "decode/0", node_id=NODE)
    shot.deliver(attempt, {"notes": [note]}, segment=shot.segments["decode/0"])
    assert list(client.job(shot.id).job.notes) == [note]
    (video,) = client.download_partial(shot.id, tmp_path)
    assert json.loads(video.with_suffix(".json").read_text())["notes"] == [note]


@pytest.mark.parametrize("state", ["running", "paused", "cancelled"])
def test_so_does_one_that_runs_is_paused_or_was_cancelled(daemon, client, shot, tmp_path, state):
    shot.decode(1, 2)
    if state != "running":
        getattr(client, {"paused": "pause", "cancelled": "cancel"}[state])(shot.id)
    collect(daemon.store, daemon.files, KEEPING)
    (video,) = client.download_partial(shot.id, tmp_path)
    assert numbers(video) == list(range(10, 30))
    assert json.loads(video.with_suffix(".json").read_text())["state"] == state


def test_what_was_decoded_before_and_after_a_retry_is_delivered_together(client, shot, tmp_path):
    shot.decode(0)
    client.cancel(shot.id)
    client.retry(shot.id)
    shot.decode(1)
    (video,) = client.download_partial(shot.id, tmp_path)
    assert numbers(video) == list(range(20))


def test_outputs_are_listed_before_and_after_the_end(daemon, client, shot):
    shot.decode(2, 0)
    answer = client.outputs(shot.id)
    assert [(one.artifact.name, one.task, one.start, one.stop) for one in answer.outputs] == [
        ("segment", "decode/0", 0, 10), ("segment", "decode/2", 20, 30),
    ]  # fmt: skip
    shot.decode(1, 3)
    shot.deliver(dispatch(daemon.store, shot.job, "mux", node_id=NODE), sidecar=b"{}", video=b"whole")
    answer = client.outputs(shot.id)
    assert answer.job.state == jobs_pb2.JOB_STATE_SUCCEEDED
    assert [
        (one.artifact.name, one.task, one.start, one.stop, one.artifact.size) for one in answer.outputs
    ] == [("video", "mux", 0, 40, 5), ("sidecar", "mux", 0, 0, 2)]
    with pytest.raises(NotFound, match="no job 'j-none'"):
        client.outputs("j-none")


def test_a_damaged_result_that_is_made_again_counts_no_more(daemon, client, shot):
    shot.decode(0, 1, 2, 3)
    (damaged,) = [one.artifact.id for one in client.outputs(shot.id).outputs if one.start == 10]
    mux = dispatch(daemon.store, shot.job, "mux", node_id=NODE)
    daemon.store.attempts.lacks_input(mux.id, mux.epoch, [damaged], "checksum")
    assert [one.start for one in client.outputs(shot.id).outputs] == [0, 20, 30]


def test_a_file_that_exists_is_kept_and_nothing_is_written_unless_told_otherwise(client, shot, tmp_path):
    shot.decode(0, 2)
    folder = tmp_path / "rescued"
    with pytest.raises(InvalidSpec, match="the folder .*rescued does not exist"):
        client.download_partial(shot.id, folder)
    folder.mkdir()
    kept = folder / f"{shot.id}-frames-20-29-partial.json"
    kept.write_text("mine")
    with pytest.raises(InvalidSpec, match=f"{kept.name} exists"):
        client.download_partial(shot.id, folder)
    assert names(folder) == [kept.name] and kept.read_text() == "mine"
    videos = client.download_partial(shot.id, folder, overwrite=True)
    assert json.loads(kept.read_text())["frames"] == 10 and len(names(folder)) == 4
    assert [numbers(video) for video in videos] == [list(range(10)), list(range(20, 30))]


def test_one_that_is_interrupted_leaves_nothing_but_whole_files(client, shot, tmp_path, monkeypatch):
    shot.decode(0, 1, 3)
    folder = tmp_path / "rescued"
    folder.mkdir()
    seen: list[tuple[int, int]] = []
    whole = sum(one.artifact.size for one in client.outputs(shot.id).outputs)

    def progress(moved: int, of: int) -> None:
        seen.append((moved, of))
        if (moved, of) == (whole, whole):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.download_partial(shot.id, folder, progress=progress)
    assert names(folder) == [] and len(seen) == 3 and sorted(seen) == seen

    def joined_once(*arguments, **facts) -> None:
        if names(folder)[1:]:
            raise KeyboardInterrupt
        join_segments(*arguments, **facts)

    monkeypatch.setattr("plugins.outputs.mp4.join_segments", joined_once)
    with pytest.raises(KeyboardInterrupt):
        client.download_partial(shot.id, folder)
    assert names(folder) == [f"{shot.id}-frames-00-19-partial.{suffix}" for suffix in ("json", "mp4")]


def test_what_the_farm_lost_is_left_out_and_told_and_the_rest_delivered(daemon, client, shot, tmp_path):
    shot.decode(0, 1, 2, 3)
    first, second, *_ = (
        Path(daemon.files.path(daemon.store.artifacts.get(one.artifact.id).location))
        for one in client.outputs(shot.id).outputs
    )
    second.write_bytes(second.read_bytes()[:-1] + b"?")
    folder = tmp_path / "rescued"
    folder.mkdir()
    with pytest.raises(
        Damaged, match=r"frames 10 to 19 \(decode/1: .*checksum.*the other decoded frames are in "
    ) as told:
        client.download_partial(shot.id, folder)
    videos = [folder / f"{shot.id}-frames-{span}-partial.mp4" for span in ("00-09", "20-39")]
    assert all(str(video) in str(told.value) for video in videos) and len(names(folder)) == 4
    assert [numbers(video) for video in videos] == [list(range(10)), list(range(20, 40))]
    first.unlink()
    with pytest.raises(Damaged, match=r"frames 0 to 9 \(decode/0: .*its file is gone"):
        client.download_partial(shot.id, folder, overwrite=True)


@given(st.text(max_size=300), st.sampled_from(["", "../x", "/etc/x", ".", "j-1/../..", "j\n1", "j" * 300]))
def test_no_name_of_a_hostile_farm_becomes_part_of_a_path(filename, job_id):
    artifact = artifacts_pb2.Artifact(id="a-1", name="segment", filename=filename)
    answer = jobs_pb2.ListOutputsResponse(job=jobs_pb2.Job(id="j-1", spec=jobs_pb2.JobSpec(frames=40)))
    answer.outputs.add(artifact=artifact, task="decode/0", start=0, stop=10)
    named = delivery._names(Path("folder"), answer.job, answer.outputs, ".mp4")
    assert [str(path) for path in named] == [
        f"folder/j-1-frames-00-09-partial.{end}" for end in ("mp4", "json")
    ]
    answer.job.id = job_id
    with pytest.raises(FarmError, match="which is not a valid id"):
        downloads = delivery.Downloads(None, "", 0.0)  # type: ignore[arg-type]  # the farm must not be asked
        downloads.partial(answer, Path("folder"))


def test_what_a_killed_download_left_goes_with_the_next(client, shot, tmp_path):
    shot.decode(0)
    folder, other = tmp_path / "rescued", tmp_path / "rescued" / f".{shot.id}-left"
    other.mkdir(parents=True)
    (other / "segment-0.mp4").write_bytes(b"begun")
    (video,) = client.download_partial(shot.id, folder)
    assert names(folder) == [f"{video.stem}.json", video.name]


def test_a_format_that_nobody_here_joins_is_named(daemon, client, node, segments, tmp_path):
    shot = Shot(daemon, node, segments, output="flipbook")
    shot.decode(0)
    with pytest.raises(FarmError, match="no plugin on this machine joins segments of the format 'flipbook'"):
        client.download_partial(shot.id, tmp_path)


@pytest.mark.parametrize("told", [True, False], ids=["new", "submitted before endings were stored"])
@pytest.mark.parametrize("name", ["x.mov", "x.%04d.png", "x"])
def test_farmctl_puts_no_video_under_another_ending(daemon, node, segments, farmctl, tmp_path, name, told):
    shot = Shot(daemon, node, segments, told=told)
    shot.decode(0, 1, 2, 3)
    mux = dispatch(daemon.store, shot.job, "mux", node_id=NODE)
    shot.deliver(mux, video=segments["decode/0"], sidecar=b"{}")
    assert daemon.client().job(shot.id).job.output_suffix == (".mp4" if told else "")
    for verb in ("watch", "download"):
        refused = farmctl("job", verb, shot.id, "-o", tmp_path / name)
        assert refused.exit_code == 2 and "output: must end in .mp4 (the format" in refused.output
        assert not (tmp_path / name).exists()
    assert farmctl("job", "download", shot.id, "-o", tmp_path / "x.MP4").exit_code == 0
    assert (tmp_path / "x.MP4").read_bytes() == segments["decode/0"]


def test_farmctl_that_watches_a_running_job_refuses_another_ending_at_once(shot, farmctl, tmp_path):
    refused = farmctl("job", "watch", shot.id, "-o", tmp_path / "x.webm")
    assert refused.exit_code == 2 and "output: must end in .mp4" in refused.output


def test_farmctl_lists_outputs_and_says_how_to_have_them(daemon, farmctl, shot):
    empty = farmctl("job", "outputs", shot.id)
    assert empty.exit_code == 0 and "0 of its 40 frames are decoded" in empty.stdout
    assert "nothing yet" in empty.stderr and "--partial" not in empty.stderr
    shot.decode(0, 3)
    told = farmctl("job", "outputs", shot.id)
    assert "20 of its 40 frames are decoded" in told.stdout
    assert re.search(r"segment +30 +39 +10 +\d+\.\d KiB +decode/3", told.stdout), told.stdout
    assert f"farmctl job outputs {shot.id} --partial FOLDER" in told.stderr
    answer = json.loads(farmctl("job", "outputs", shot.id, "-o", "json").stdout)
    assert [one["stop"] for one in answer["outputs"]] == ["10", "40"]
    shot.decode(1, 2)
    attempt = dispatch(daemon.store, shot.job, "mux", node_id=NODE)
    shot.deliver(attempt, video=b"whole", sidecar=b"{}")
    told = farmctl("job", "outputs", shot.id)
    assert re.search(r"video +0 +39 +40 +5 B +mux\s+sidecar +- +- +- +2 B +mux", told.stdout), told.stdout


def test_farmctl_downloads_what_is_decoded_and_refuses_with_what_to_do(daemon, farmctl, shot, tmp_path):
    folder = tmp_path / "rescued"
    ask = ("job", "outputs", shot.id, "--partial", folder)
    early = farmctl(*ask)
    assert early.exit_code == 1
    assert early.stderr == f"farmctl: no frame of job {shot.id} is decoded yet: the job is running\n"
    shot.decode(0, 2)
    shot.fail("decode/1")
    assert farmctl(*ask).exit_code == 2, "the folder is not there"
    folder.mkdir()
    done = farmctl(*ask)
    assert done.exit_code == 0, done.stderr
    files = [folder / f"{shot.id}-frames-{span}-partial.mp4" for span in ("00-09", "20-29")]
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [str(file) for file in files]
    again = farmctl(*ask)
    assert again.exit_code == 2 and "--overwrite" in again.stderr
    over = farmctl(*ask, "--overwrite", "-o", "json")
    assert json.loads(over.stdout) == {"files": [str(file) for file in files]}
    for verb in ("watch", "download"):
        told = farmctl("job", verb, shot.id, "-o", tmp_path / "v.mp4")
        assert told.exit_code == 1 and "ValueError: poison" in told.stderr
        assert f"farmctl job outputs {shot.id} --partial FOLDER" in told.stderr


def test_farmctl_sends_who_wants_a_part_of_a_finished_video_to_the_whole(daemon, farmctl, shot, tmp_path):
    shot.decode(0, 1, 2, 3)
    attempt = dispatch(daemon.store, shot.job, "mux", node_id=NODE)
    shot.deliver(attempt, video=b"whole", sidecar=b"{}")
    told = farmctl("job", "outputs", shot.id, "--partial", tmp_path)
    assert told.exit_code == 1 and f"farmctl job download {shot.id} -o FILE" in told.stderr
