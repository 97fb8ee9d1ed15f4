"""`farmctl inference` prepares media, names files and takes arguments as Lightricks' own script does."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("ltx_video", reason="NOT VERIFIED: Lightricks' package isn't installed")

from farm.inference.arguments import InferenceConfig
from farm.inference.media import as_original, fitting_frames, prepare
from farm.inference.output_names import output_name, words_of
from farm.inference.reading import read_pictures
from farm.media.clips import iter_frames, probe
from tests.parity.script import script

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("ignore")  # their code is of 2025

NONE = (0, 0, 0, 0)


def bytes_of(theirs: torch.Tensor) -> np.ndarray:
    """Their float [1, 3, F, H, W] from -1 to 1 as uint8 [F, H, W, 3], which it was before."""
    return ((theirs[0].permute(1, 2, 3, 0) + 1) * 127.5).round().to(torch.uint8).numpy()


def pictures(width: int, height: int) -> Iterator[tuple[str, Image.Image]]:
    generator = np.random.default_rng(0)
    yield "noise", Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
    # Whole numbers are cut, not rounded: every level of a flat area must come out as theirs.
    flat = np.zeros((256, width, 3), np.uint8)
    flat[:] = np.arange(256)[:, None, None]
    yield "levels", Image.fromarray(flat.repeat(4, 0))
    blocks = generator.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    yield "blocks", Image.fromarray(blocks.repeat(16, 0).repeat(16, 1)[:height, :width])


@pytest.mark.parametrize("size", [(256, 160), (320, 200), (96, 128), (130, 130)])
@pytest.mark.parametrize("resize", [False, True])
def test_a_picture_is_prepared_to_the_same_pixels(size: tuple[int, int], resize: bool):
    width, height = size
    for has in ((320, 200), (201, 333), (97, 121)):
        for name, picture in pictures(*has):
            theirs = script.load_image_to_tensor_with_resize_and_crop(
                picture, height, width, just_crop=not resize
            )
            ours = as_original(picture, size, resize=resize)
            assert np.array_equal(ours, bytes_of(theirs)[0]), (name, has)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 frames of blocks that move, 322x242 at 25 a second."""
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    picture = np.asarray(dict(pictures(322, 242))["blocks"])
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 322, 242, "yuv420p"
        for number in range(21):
            moved = np.ascontiguousarray(np.roll(picture, 5 * number, 1))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        file.mux(stream.encode())
    return path


@pytest.mark.parametrize("resize", [False, True])
def test_a_clip_is_prepared_to_the_same_pixels_and_keeps_them_on_its_way_to_the_farm(
    clip: Path, tmp_path: Path, resize: bool
):
    theirs = script.load_media_file(str(clip), 160, 256, 17, NONE, just_crop=not resize)
    made = prepare(str(clip), probe(clip), tmp_path, size=(256, 160), fps=30, frames=17, resize=resize)
    facts = probe(made.path)
    assert (made.frames, made.cut, facts.frames, facts.fps) == (17, 4, 17, Fraction(30))
    ours = np.stack(list(iter_frames(made.path, facts.width, facts.height, Fraction(30))))
    assert np.array_equal(ours, bytes_of(theirs))


def write(path: Path, codec: str, pix_fmt: str, size: tuple[int, int], times: list[int], **options: str):
    """Write a frame of moving blocks for each time, in 25ths of a second."""
    picture = np.asarray(dict(pictures(*size))["blocks"])
    with av.open(str(path), "w") as file:
        stream = cast(av.VideoStream, file.add_stream(codec, rate=25, options=options))
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        for number, time in enumerate(times):
            moved = np.ascontiguousarray(np.roll(picture, 5 * number, 1))
            frame = av.VideoFrame.from_ndarray(moved, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = time, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


EVEN = list(range(9))
HELD = [*range(4), *range(7, 19, 3), 19, 40, 41]
"""Times of frames, some held longer than others."""


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "size", "times", "options"),
    [
        ("held.mp4", "libx264", "yuv420p", (96, 64), HELD, {}),
        ("held.mkv", "libx264", "yuv420p", (96, 64), HELD, {}),
        ("held.avi", "mjpeg", "yuvj420p", (96, 64), HELD, {}),
        ("b_frames.avi", "libx264", "yuv420p", (96, 64), EVEN, {"bf": "2"}),
        ("deep.mp4", "libx264", "yuv420p10le", (96, 64), EVEN, {}),
        ("fields.mp4", "libx264", "yuv420p", (96, 64), EVEN, {"flags": "+ilme+ildct"}),
        ("odd.mkv", "ffv1", "yuv420p", (97, 63), EVEN, {}),
    ],
)
def test_a_clip_of_any_kind_is_read_to_the_same_pictures(
    tmp_path: Path,
    name: str,
    codec: str,
    pix_fmt: str,
    size: tuple[int, int],
    times: list[int],
    options: dict,
):
    write(tmp_path / name, codec, pix_fmt, size, times, **options)
    reader = script.imageio.get_reader(str(tmp_path / name))
    count = reader.count_frames()
    assert probe(tmp_path / name).frames == count
    for number, ours in enumerate(read_pictures(tmp_path / name, count)):
        assert np.array_equal(np.asarray(ours), reader.get_data(number)), number
    assert number == count - 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("kind", ["png", "apng", "gif", "webp"])
def test_of_an_image_that_moves_or_is_clear_in_parts_the_same_pixels_are_used(
    tmp_path: Path, mode: str, kind: str
):
    picture = dict(pictures(96, 64))["blocks"]
    picture.putalpha(Image.fromarray(np.arange(96 * 64, dtype=np.uint8).reshape(64, 96)))
    path = tmp_path / f"picture.{'png' if kind == 'apng' else kind}"
    more = [] if kind == "png" else [picture.transpose(Image.Transpose.ROTATE_180).convert(mode)]
    extra: dict[str, Any] = {"transparency": 3} if mode == "P" and kind != "apng" else {}
    picture.convert(mode).save(path, save_all=bool(more), append_images=more, **extra)
    facts = probe(path, as_stored=True)
    assert (facts.kind, facts.frames) == ("image", 1)
    theirs = script.load_media_file(str(path), 64, 96, 1, NONE, just_crop=True)
    made = prepare(str(path), facts, tmp_path, size=(96, 64), fps=30, frames=1, resize=False)
    assert np.array_equal(np.asarray(Image.open(made.path)), bytes_of(theirs)[0])


def test_an_image_file_is_prepared_to_the_same_pixels(tmp_path: Path):
    path = tmp_path / "picture.png"
    dict(pictures(201, 333))["blocks"].save(path)
    theirs = script.load_media_file(str(path), 160, 256, 1, NONE, just_crop=True)
    made = prepare(str(path), probe(path), tmp_path, size=(256, 160), fps=30, frames=1, resize=False)
    assert np.array_equal(np.asarray(Image.open(made.path)), bytes_of(theirs)[0])


@pytest.mark.parametrize(("start", "has", "frames"), [(0, 300, 257), (0, 5, 65), (8, 60, 65), (64, 1, 65)])
def test_a_clip_is_trimmed_to_as_many_frames(start: int, has: int, frames: int):
    class Pipeline:
        video_scale_factor = 8

    theirs = script.LTXVideoPipeline.trim_conditioning_sequence(Pipeline(), start, has, frames)
    assert fitting_frames(has, start, frames) == theirs


def test_the_arguments_have_the_same_names_and_defaults():
    theirs = {field.name: field for field in dataclasses.fields(script.InferenceConfig)}
    assert list(InferenceConfig.model_fields) == list(theirs)
    ours, original = InferenceConfig(), script.InferenceConfig(prompt="")
    assert {name: getattr(ours, name) for name in theirs} == {
        name: getattr(original, name) for name in theirs
    }
    # Theirs must be given, and ours may be left out.
    assert theirs["prompt"].default is dataclasses.MISSING


PROMPTS = [
    "A red ball rolls over the grass, and then it stops at the wall",
    "透明瓶装饮料在冰雾中旋转,瓶身水滴动态特写",
    "éclair à 30 fps: 2nd take!",
    "Donaudampfschifffahrtsgesellschaftskapitän",
    "",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_files_have_the_same_names(prompt: str, tmp_path: Path):
    assert words_of(prompt, 30) == script.convert_prompt_to_filename(prompt, 30)
    for frames, kind, ending in ((65, "video", ".mp4"), (1, "image", ".png")):
        for _ in range(2):
            theirs = script.get_unique_filename(
                f"{kind}_output_0",
                ending,
                prompt=prompt,
                seed=7,
                resolution=(720, 1280, frames),
                dir=tmp_path,
            )
            assert output_name(tmp_path, prompt, 7, (1280, 720), frames) == theirs
            theirs.touch()
