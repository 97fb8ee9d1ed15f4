"""farmctl demo: start a whole farm for one video, to see that everything works."""

from __future__ import annotations

import os
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np

from farm.cli.follow import finish, follow, submitted, submitting
from farm.cli.job import print_tasks
from farm.cli.local import LocalFarm
from farm.cli.params import Size
from farm.cli.printing import note, spinner
from farm.cli.server_parts import needs_server_parts
from farm.cli.up import interruptible, take_down
from farm.client import FarmClient
from farm.client.delivery import ending_here
from farm.client.errors import InvalidSpec
from farm.client.transfer import check_ending, check_output
from farm.durable import scratch
from farm.media.clips import MediaError, read_frames
from farm.spec import JobSpec, frame_rate

GIVEN_FRAMES = 9
"""Frames of the clip that the demo extends. They make two latents, the fewest that show motion."""

_READY_SECONDS = 180.0
_FARM = "farm"


@click.command()
@click.option(
    "--size",
    "pixels",
    type=Size(),
    default="256x160",
    show_default=True,
    help="Width and height of the video in pixels.",
)
@click.option("--frames", type=click.IntRange(GIVEN_FRAMES), default=750, show_default=True)
@click.option("--fps", type=float, default=30.0, show_default=True)
@click.option("--nodes", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--prompt", default="a red ball moving right on a navy background", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--clip",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Extend the first {GIVEN_FRAMES} frames of this clip. Default: a clip that the demo draws.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default="demo.mp4", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
@needs_server_parts
def demo(
    pixels: tuple[int, int],
    frames: int,
    fps: float,
    nodes: int,
    prompt: str,
    seed: int,
    clip: Path | None,
    output: Path,
    overwrite: bool,
) -> None:
    """Try the whole farm on this machine.

    The demo starts a farm, extends nine frames to a whole shot, and shows which device rendered which window. Then it
    stops the farm.

    \b
    Examples:
      farmctl demo
      farmctl demo --size 1024x576 --clip clip.mp4 -o long.mp4
    """
    # The demo's farm is on this machine, and has its plugins.
    check_ending(output, ending_here(JobSpec.model_fields["output"].default))
    output.parent.mkdir(parents=True, exist_ok=True)
    check_output(output, overwrite)
    begun = time.monotonic()
    with scratch(Path(tempfile.gettempdir()), f"farm-demo-{os.getuid()}", _end_farm) as folder:
        given = folder / "clip.mp4"
        _write_clip(given, _first_frames(clip, pixels, fps) if clip else _drawn_frames(pixels, fps), fps)
        farm = LocalFarm(folder / _FARM)
        farm.home.mkdir()
        # Any free port: a farm of the user's own may run on the usual one.
        (farm.home / "farm.toml").write_text('[server]\nlisten = "127.0.0.1:0"\n')
        with interruptible():
            try:
                with spinner() as tell:
                    farm.start(nodes)
                    farm.wait_until_ready(nodes, _READY_SECONDS, tell)
                click.echo(
                    f"a farm of {nodes} node{'s' * (nodes > 1)} is up after {time.monotonic() - begun:.0f} s"
                )
                with farm.client() as client:
                    _render(client, given, frames, pixels, fps, prompt, seed, output)
            finally:
                take_down(farm)
    click.echo(f"{output.absolute()}: {frames} frames, {time.monotonic() - begun:.0f} s in all")


def _end_farm(folder: Path) -> None:
    """Stop the farm that a killed demo left running in its folder."""
    farm = LocalFarm(folder / _FARM)
    if farm.home.is_dir():
        note("stopping the farm that a killed demo left running")
        take_down(farm)


def _render(
    client: FarmClient,
    clip: Path,
    frames: int,
    pixels: tuple[int, int],
    fps: float,
    prompt: str,
    seed: int,
    output: Path,
) -> None:
    fields: dict[str, Any] = {
        "frames": frames,
        "width": pixels[0],
        "height": pixels[1],
        "fps": fps,
        "prompt": prompt,
        "seed": seed,
    }
    client.patience = 30.0
    with submitting():
        answer = client.submit(conditions=[clip], name="demo", **fields)
    with submitted(answer.job.id, output):
        for text in answer.notes:
            note(f"note: {text}")
        job = follow(client, answer.job.id, output)
    print_tasks(client.job(job.id).tasks, str)
    finish(client, job, output, overwrite=True)


def _drawn_frames(pixels: tuple[int, int], fps: float) -> np.ndarray:
    """uint8 [9, height, width, 3]: a red ball, lit from above left, that moves right on a navy background.

    Drawn like the scenes that ltx-tiny was trained on (plugins/ltx/reference).
    """
    width, height = pixels
    radius, speed = 0.19 * min(pixels), 0.5 * min(pixels) / fps
    rows, columns = (grid + 0.5 for grid in np.mgrid[0:height, 0:width].astype(np.float32))
    frames = np.empty((GIVEN_FRAMES, height, width, 3), np.uint8)
    for index, frame in enumerate(frames):
        x, y = columns - (1.5 * radius + speed * index), rows - height / 2
        light = 1 - 0.3 * np.hypot(x + 0.35 * radius, y + 0.35 * radius)[..., None] / radius
        cover = np.clip(radius - np.hypot(x, y) + 0.5, 0, 1)[..., None]
        ball = np.clip(light, 0, 1) * np.array([235.0, 45.0, 45.0], np.float32)
        frame[:] = np.rint(cover * ball + (1 - cover) * np.array([12.0, 22.0, 92.0], np.float32))
    return frames


def _first_frames(clip: Path, pixels: tuple[int, int], fps: float) -> np.ndarray:
    try:
        return read_frames(clip, *pixels, frame_rate(fps))[:GIVEN_FRAMES]
    except MediaError as error:
        raise InvalidSpec("clip", str(error)) from None


def _write_clip(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write the frames as H.264 of a quality at which they look as they were drawn."""
    import av

    rate: Fraction = frame_rate(fps)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": "6", "preset": "veryfast"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
