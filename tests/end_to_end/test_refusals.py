"""What the farm refuses, with words that name the field, and stores nothing of."""

from __future__ import annotations

import grpc
import psutil
import pytest

from farm.client import FarmClient, FarmError
from farm.spec import Condition
from farm.v1 import jobs_pb2, jobs_pb2_grpc
from farm.wire.channels import channel
from farm.wire.profile import Profile

SMALL = {"frames": 49, "width": 128, "height": 96, "fps": 30.0}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"frames": 0}, "frames: must be at least 1"),
        ({"frames": 100_001}, "frames: must be at most 100000"),
        ({"width": 0}, "width: must be at least 32"),
        ({"width": 5000}, "width: must be at most 4096"),
        ({"height": 97}, "height: must be a multiple of 2"),
        ({"fps": 0.5}, "fps: must be at least 1"),
        ({"fps": 1000.0}, "fps: must be at most 120"),
        ({"model": "sora"}, "model: must be one of"),
        ({"model": "ltx-2b-0.9.5"}, "model: no node has offered"),
        ({"strategy": "magic"}, "strategy: must be one of autoregressive, codenoise, hierarchical"),
        ({"output": "gif"}, "output: must be one of mp4"),
        ({"model": "ltx-tny"}, r"model: .*, got 'ltx-tny'; did you mean 'ltx-tiny'\?"),
        ({"storyboard_model": "ltx-tny"}, r"storyboard_model: .*; did you mean 'ltx-tiny'\?"),
        ({"strategy": "hirarchical"}, r"strategy: .*; did you mean 'hierarchical'\?"),
        ({"output": "mp"}, r"output: .*; did you mean 'mp4'\?"),
        ({"layout": "fixd"}, r"layout: .*, got 'fixd'; did you mean 'fixed'\?"),
        ({"prompt": "x" * 4001}, "prompt: must be at most 4000 characters"),
        (
            {"later_prompts": [{"frame": 9, "text": "x"}, {"frame": 9, "text": "y"}]},
            "must be higher than the previous `frame`",
        ),
        (
            {"later_prompts": [{"frame": n + 1, "text": "x"} for n in range(101)], "frames": 200},
            "at most 100 entries",
        ),
        ({"crossfade_frames": -1}, "crossfade_frames: must be at least 0"),
        ({"steps": 0}, "steps: must be at least 1"),
        ({"overlap_latents": 8}, "overlap_latents must be at most a third"),
    ],
)
def test_a_bad_spec_is_refused_by_the_farm_itself(farm, fields, words):
    # Past our client's own checks: what a foreign client would send.
    profile = Profile.load(farm.home / "client.json")
    request = jobs_pb2.SubmitJobRequest(spec={**SMALL, **fields})
    with farm.client as client, channel(profile.server, profile.ca_pem, profile.token) as wire:
        before = {job.id for job in client.jobs()}
        with pytest.raises(grpc.RpcError, match=words) as refused:
            jobs_pb2_grpc.JobServiceStub(wire).SubmitJob(request)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert {job.id for job in client.jobs()} == before


@pytest.fixture
def broken(tmp_path, clip):
    """Clips that can't be used, by what is wrong with them."""
    files = {name: tmp_path / f"{name}.mp4" for name in ("empty", "truncated", "text")}
    files["empty"].write_bytes(b"")
    files["truncated"].write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    files["text"].write_text("this is no video\n" * 50)
    return files


@pytest.mark.parametrize("kind", ["empty", "truncated", "text"])
def test_an_unusable_clip_is_refused_before_anything_is_stored(farm, broken, kind):
    with farm.client as client:
        before = len(client.jobs())
        with pytest.raises(FarmError, match="media: "):
            client.submit(conditions=[broken[kind]], **SMALL)
        assert len(client.jobs()) == before


def test_a_clip_longer_than_the_result_is_refused(farm, clip):
    with (
        farm.client as client,
        pytest.raises(FarmError, match="9 frames at 30 fps, but the video has only 5"),
    ):
        client.submit(conditions=[clip], **{**SMALL, "frames": 5})


def test_a_path_outside_the_allowed_roots_is_refused(farm, clip):
    with (
        farm.client as client,
        pytest.raises(FarmError, match="must lie in one of the folders in media.roots"),
    ):
        client.submit(conditions=[_condition({"media": {"path": str(clip)}})], **SMALL)


def test_a_wrong_token_opens_nothing(farm):
    profile = Profile.load(farm.home / "client.json")
    for token in ("", "guess", "node.bm9kZQ==.00"):
        with (
            FarmClient(profile.server, profile.ca_pem, token) as client,
            pytest.raises(FarmError, match="token"),
        ):
            client.jobs()


def test_nothing_of_the_farm_listens_beyond_loopback(farm):
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in farm.processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def _condition(fields):
    return Condition.model_validate(fields)
