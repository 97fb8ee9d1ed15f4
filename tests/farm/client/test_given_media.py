"""What people are told of the media they give when a job is submitted or only planned."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farm.config import load_config
from farm.plugins import catalogue, planning_plugins
from farm.spec import InvalidSpec, parse_spec
from farmd.intake import Intake
from plugins.outputs.mp4 import encode_segment
from tests.farm.media.clips import HEIC, ffmpeg

SIZE = (96, 64)
NAVY, MAROON = (0, 0, 96), (96, 0, 0)


@pytest.fixture
def intake(daemon, tmp_path) -> Intake:
    daemon.store.nodes.hello("n" * 32, "n", "", "", "b", [], [("ltx-tiny", "w1")], "r", "", [], "")
    config = load_config(None, {}, {"home": tmp_path / "farm", "media": {"roots": [str(tmp_path)]}})
    return Intake(config, catalogue(planning_plugins()), daemon.store, daemon.files)


@pytest.fixture
def still(tmp_path):
    def make(name: str, colour: tuple[int, int, int]) -> Path:
        Image.new("RGB", SIZE, colour).save(path := tmp_path / f"{name}.png")
        return path

    return make


@pytest.fixture
def fading(tmp_path) -> Path:
    """A clip of 21 frames that goes from navy to maroon."""
    way = np.linspace(0, 1, 21)[:, None] * np.subtract(MAROON, NAVY) + NAVY
    frames = np.broadcast_to(way[:, None, None].astype(np.uint8), (21, SIZE[1], SIZE[0], 3))
    encode_segment(frames, tmp_path / "fading.mp4", *SIZE, Fraction(24))
    return tmp_path / "fading.mp4"


def notes(intake: Intake, *given: tuple[Path, int] | tuple[Path, int, float], **fields) -> list[str]:
    """What a dry run says of contradictions."""
    conditions = [
        {"media": {"path": str(path)}, "frame": frame, "strength": firm[0] if firm else 1.0}
        for path, frame, *firm in given
    ]
    asked = {"frames": 97, "width": SIZE[0], "height": SIZE[1], "fps": 24, "conditions": conditions, **fields}
    return [
        note for note in intake.plan(parse_spec(asked), keep_media=False).notes if "very different" in note
    ]


def told(intake: Intake, *files: Path, **fields) -> list[str]:
    """All notes of a job that is given these media, at frames apart."""
    conditions = [{"media": {"path": str(file)}, "frame": 40 * at} for at, file in enumerate(files)]
    asked = {
        "frames": 97,
        "width": SIZE[0],
        "height": SIZE[1],
        "fps": 24,
        "prompt": "a",
        "conditions": conditions,
    }
    return list(intake.plan(parse_spec({**asked, **fields}), keep_media=False).notes)


def test_what_media_carry_and_the_farm_drops_is_told_by_what_they_are(intake, still, tmp_path):
    clip, clear = tmp_path / "clip.mov", tmp_path / "clear.png"
    frames = np.zeros((9, SIZE[1], SIZE[0], 3), np.uint8)
    encode_segment(frames, tmp_path / "plain.mp4", *SIZE, Fraction(24))
    hdr = ("-bsf:v", "h264_metadata=colour_primaries=9:transfer_characteristics=16:matrix_coefficients=9")
    ffmpeg("-i", tmp_path / "plain.mp4", "-c", "copy", *hdr, "-timecode", "01:00:05:06", clip)
    Image.new("RGBA", SIZE, (*NAVY, 128)).save(clear)
    assert [note for note in told(intake, clip, clear) if ": its" in note] == [
        "clip 1: its high dynamic range (PQ) is not tone-mapped: it looks paler than it is",
        "clip 1: its start timecode 01:00:05:06 is dropped",
        "image 2: its transparent parts are shown over black",
    ]
    usual = told(intake, still("navy", NAVY), tmp_path / "plain.mp4")
    assert [
        note
        for note in usual
        if note.startswith(("clip", "image")) and "the video after rendering" not in note
    ] == []


def test_notes_of_media_and_options_are_kept_with_the_job(intake, daemon, tmp_path):
    Image.new("RGBA", SIZE, (*NAVY, 128)).save(tmp_path / "clear.png")
    conditions = [{"media": {"path": str(tmp_path / "clear.png")}}]
    asked = {"frames": 97, "width": SIZE[0], "height": SIZE[1], "fps": 24, "conditions": conditions}
    spec = parse_spec({**asked, "negative_prompt": "blur"})
    planned = intake.plan(spec, keep_media=True)
    job, _ = daemon.store.jobs.submit(spec, planned.plan, planned.notes, "", planned.media)
    for said in (
        "image: its transparent parts are shown",
        "negative_prompt: has no effect",
        "prompt: there is none",
    ):
        assert any(note.startswith(said) for note in daemon.client().job(job.id).job.notes)


@pytest.mark.parametrize("uploaded", [False, True])
def test_a_file_that_would_be_misread_is_refused_by_its_kind_and_nothing_is_kept(
    intake, daemon, tmp_path, uploaded
):
    path = tmp_path / "photo.jpg"
    path.write_bytes(HEIC.read_bytes())
    media = {"artifact_id": daemon.client().upload(path).id} if uploaded else {"path": str(path)}
    spec = parse_spec({"frames": 9, "width": 64, "height": 64, "conditions": [{"media": media}]})
    kept = sorted(daemon.home.rglob("*"))
    with pytest.raises(
        InvalidSpec, match=r"photo.jpg: is a HEIC image, as phones write it; accepted"
    ) as refused:
        intake.plan(spec, keep_media=True)
    assert refused.value.field == "conditions.0.media" and sorted(daemon.home.rglob("*")) == kept


def test_two_different_images_less_than_a_latent_apart_are_told_by_the_numbers_of_the_list(intake, still):
    navy, maroon = still("navy", NAVY), still("maroon", MAROON)
    (note,) = notes(intake, (maroon, 24), (navy, 20))
    assert note.startswith(
        "image 2 at frame 20 and image 1 at frame 24 look very different (their PSNR is 10 dB; below 16"
    )
    assert notes(intake, (navy, 20), (maroon, 27)) and not notes(intake, (navy, 20), (maroon, 28))
    assert len(notes(intake, (navy, 20), (maroon, 21), (navy, 22))) == 2


def test_images_that_agree_or_are_not_held_firmly_contradict_nothing(intake, still):
    navy, dark, maroon = still("navy", NAVY), still("dark", (8, 0, 90)), still("maroon", MAROON)
    assert not notes(intake, (navy, 20), (dark, 21))
    assert not notes(intake, (navy, 20), (maroon, 21, 0.8))


def test_a_clip_is_compared_where_it_is_nearest(intake, still, fading):
    navy, maroon = still("navy", NAVY), still("maroon", MAROON)
    assert not notes(intake, (navy, 28), (fading, 30), (maroon, 52))
    before, after = notes(intake, (maroon, 28), (fading, 30), (navy, 52))
    assert before.startswith("image 1 at frame 28 and clip 2 at frame 30 look very different (")
    assert after.startswith("clip 2 at frame 50 and image 3 at frame 52 look very different (")


def test_a_key_within_the_video_that_is_made_over_is_compared_at_its_frame(intake, still, fading):
    navy, maroon = still("navy", NAVY), still("maroon", MAROON)
    over = (fading, 0, 0.5)
    assert not notes(intake, over, (navy, 1), (maroon, 19), frames=21)
    (note,) = notes(intake, over, (navy, 19), frames=21)
    assert note.startswith(
        "the video is made from clip 1, but image 2 at frame 19 looks very different from the same frame of clip 1 ("
    )


def test_a_key_within_a_clip_that_is_kept_is_refused(intake, still, fading):
    with pytest.raises(InvalidSpec, match=r"conditions.1.frame: frame 35 overlaps conditions.0"):
        notes(intake, (fading, 30), (still("navy", NAVY), 35))
