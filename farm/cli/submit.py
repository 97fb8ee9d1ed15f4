"""farmctl submit: ask the farm for a video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import click

from farm.cli.follow import finish, follow, submitted, submitting, transfer_bar
from farm.cli.given_media import check_length, condition_of, facts_of, frame_of, rate_of, size_of
from farm.cli.keyframe_defaults import KeyMedia, default_rate, in_frame_order
from farm.cli.params import Keyframe, Place, Size
from farm.cli.planned import print_plan
from farm.cli.preset import asked_preset
from farm.cli.printing import connect, done_all_the_same, note, print_json
from farm.cli.prompts import asked_prompts
from farm.cli.refusals import with_media_names
from farm.cli.spec_file import SpecFirst, read_job
from farm.cli.submit_options import video_options
from farm.client import InvalidSpec, LocalCondition
from farm.client.transfer import check_output
from farm.media.clips import resampled_count
from farm.presets import Preset, merged
from farm.spec import Condition, checked_frame_rate


@click.group(cls=SpecFirst)
def submit() -> None:
    """Ask the farm for a video.

    \b
    Examples:
      farmctl submit text --frames 250 --prompt "a river at dawn" --wait -o river.mp4
      farmctl submit image still.png --frames 250 --prompt "…"
      farmctl submit extend clip.mp4 --frames 750 --size 1024x576 --fps 30 --prompt "…" --wait -o long.mp4
      farmctl submit keyframes a.png@0 b.png@120 c.png@end --frames 250 --prompt "…"
      farmctl submit video take3.mp4 --strength 0.3 --prompt "…"
      farmctl submit --spec job.yaml --wait -o shot.mp4
    """


_NO_UPLOAD = click.option(
    "--no-upload",
    is_flag=True,
    help="Upload nothing. Give each clip or image as a path on farmd's host, inside a folder from farmd's "
    "setting `media.roots`.",
)


@submit.command()
@click.option("--frames", type=int, required=True, help="Number of frames of the result.")
@click.option(
    "--size", "pixels", type=Size(), help="Size of the result. Default: the preset's, or else 1024x576."
)
@click.option("--fps", type=float, help="Frames a second. Default: the preset's, or else 30.")
@video_options
@click.pass_context
def text(
    ctx: click.Context, frames: int, pixels: tuple[int, int] | None, fps: float | None, **asked: Any
) -> None:
    """Make a video from a prompt, without an image or clip.

    \b
    Examples:
      farmctl submit text --frames 250 --prompt "a river at dawn" --wait -o river.mp4
      farmctl submit text --frames 500 --prompt "a ball rolls" --prompt-at 240 "it stops"
      farmctl submit text --frames 500 --prompts shots.yaml --prompt-always "a man in a red hat"
      farmctl submit text --frames 250 --preset quality --option eta=0.5 --prompt "a river at dawn"
      farmctl submit text --frames 1 --size 256x160 --prompt "a red ball on a navy background"
    """
    preset = _preset(ctx, asked)
    width, height = pixels or preset.size or (1024, 576)
    rate = fps if fps is not None else preset.fps or 30.0
    _submit(ctx, [], {"frames": frames, "width": width, "height": height, "fps": rate}, **asked)


@submit.command()
@click.argument("image")
@click.option("--frames", type=int, required=True, help="Number of frames of the result.")
@click.option(
    "--size", "pixels", type=Size(), help="Size of the result. Default: the preset's, or else the image's."
)
@click.option("--fps", type=float, help="Frames a second. Default: the preset's, or else 30.")
@video_options
@_NO_UPLOAD
@click.pass_context
def image(
    ctx: click.Context,
    image: str,
    frames: int,
    pixels: tuple[int, int] | None,
    fps: float | None,
    no_upload: bool,
    **asked: Any,
) -> None:
    """Make a video that begins with an image: IMAGE is the first frame.

    \b
    Example:
      farmctl submit image still.png --frames 250 --prompt "a river at dawn" --wait -o river.mp4
    """
    facts = facts_of("image", image, no_upload)
    if facts and facts.kind != "image":
        raise InvalidSpec("image", f"{image} is a clip; give it to `farmctl submit extend`")
    preset = _preset(ctx, asked)
    width, height = pixels or preset.size or size_of(facts)
    rate = fps if fps is not None else preset.fps or 30.0
    fields = {"frames": frames, "width": width, "height": height, "fps": rate}
    _submit(ctx, [condition_of(image, facts, no_upload)], fields, **asked)


@submit.command()
@click.argument("clip")
@click.option(
    "--frames",
    type=int,
    required=True,
    help="Number of frames of the result. The frames of CLIP count too.",
)
@click.option(
    "--size", "pixels", type=Size(), help="Size of the result. Default: the preset's, or else the clip's."
)
@click.option("--fps", type=float, help="Frames a second. Default: the preset's, or else the clip's.")
@click.option(
    "--at", type=Place(), default="start", show_default=True, help="Frame of the result at which CLIP begins."
)
@video_options
@_NO_UPLOAD
@click.pass_context
def extend(
    ctx: click.Context,
    clip: str,
    frames: int,
    pixels: tuple[int, int] | None,
    fps: float | None,
    at: int | Literal["end"],
    no_upload: bool,
    **asked: Any,
) -> None:
    """Make a clip longer: the model adds frames after its end, before its beginning, or both.

    \b
    Examples:
      farmctl submit extend clip.mp4 --frames 750 --size 1024x576 --fps 30 \\
          --prompt "a river at dawn" --wait -o long.mp4
      farmctl submit extend clip.mp4 --frames 750 --at end       # all new frames come before the clip
      farmctl submit extend clip.mp4 --frames 750 --at 300       # the clip begins at frame 300 of the video
      farmctl submit extend clip.mp4 --frames 750 --dry-run
    """
    facts = facts_of("clip", clip, no_upload)
    preset = _preset(ctx, asked)
    width, height = pixels or preset.size or size_of(facts)
    rate = fps if fps is not None else preset.fps or rate_of(facts)
    check_length(clip, facts, frames, rate)
    fields = {"frames": frames, "width": width, "height": height, "fps": rate}
    frame = frame_of(at, facts, frames, rate)
    _submit(ctx, [condition_of(clip, facts, no_upload, frame)], fields, **asked)


@submit.command()
@click.argument("media", nargs=-1, required=True, type=Keyframe())
@click.option("--frames", type=int, required=True, help="Number of frames of the result.")
@click.option(
    "--size",
    "pixels",
    type=Size(),
    help="Size of the result. Default: the preset's, or else the size of the first image or clip in the video.",
)
@click.option(
    "--fps",
    type=float,
    help="Frames a second. Default: the preset's, or else the frame rate of the clips, or 30 if all media are images.",
)
@video_options
@_NO_UPLOAD
@click.pass_context
def keyframes(
    ctx: click.Context,
    media: tuple[tuple[str, int | Literal["end"], float], ...],
    frames: int,
    pixels: tuple[int, int] | None,
    fps: float | None,
    no_upload: bool,
    **asked: Any,
) -> None:
    """Make a video from images and clips at given frames: the model makes the frames between them.

    MEDIA@FRAME puts an image or clip at a frame: 'start', 'end' or a number. MEDIA@FRAME:STRENGTH lets the model change
    that image or clip, except at strength 1. The order of the arguments doesn't matter.

    \b
    Examples:
      farmctl submit keyframes a.png@0 b.png@120 c.png@end --frames 250 --prompt "…" --wait -o between.mp4
      farmctl submit keyframes opening.mp4@start logo.png@end --frames 500 --size 1024x576
    """
    found = [facts_of("media", name, no_upload) for name, _, _ in media]
    keys = [KeyMedia(name, at, facts) for (name, at, _), facts in zip(media, found, strict=True)]
    preset = _preset(ctx, asked)
    width, height = pixels or preset.size or size_of(in_frame_order(keys)[0].facts)
    asked_rate = fps if fps is not None else preset.fps
    rate, why = (asked_rate, "") if asked_rate is not None else default_rate(keys)
    if why:
        note(f"note: {why}")
    conditions = [
        condition_of(name, facts, no_upload, frame_of(at, facts, frames, rate), strength)
        for (name, at, strength), facts in zip(media, found, strict=True)
    ]
    fields = {"frames": frames, "width": width, "height": height, "fps": rate}
    _submit(ctx, conditions, fields, **asked)


@submit.command()
@click.argument("clip")
@click.option(
    "--strength",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.4,
    show_default=True,
    help="How closely the video follows CLIP. At 0, nothing of CLIP is left. Near 1, CLIP hardly changes.",
)
@click.option("--frames", type=int, help="Number of frames of the result. Default: the clip's.")
@click.option(
    "--size", "pixels", type=Size(), help="Size of the result. Default: the preset's, or else the clip's."
)
@click.option("--fps", type=float, help="Frames a second. Default: the preset's, or else the clip's.")
@video_options
@_NO_UPLOAD
@click.pass_context
def video(
    ctx: click.Context,
    clip: str,
    strength: float,
    frames: int | None,
    pixels: tuple[int, int] | None,
    fps: float | None,
    no_upload: bool,
    **asked: Any,
) -> None:
    """Restyle a video: CLIP gives the layout and the motion, and the prompt says what the video becomes.

    \b
    Example:
      farmctl submit video take3.mp4 --strength 0.3 --prompt "a river at night" --wait -o night.mp4
    """
    facts = facts_of("clip", clip, no_upload)
    preset = _preset(ctx, asked)
    width, height = pixels or preset.size or size_of(facts)
    rate = fps if fps is not None else preset.fps or rate_of(facts)
    if facts is None and frames is None:
        raise InvalidSpec("frames", "must be given, because the clip can't be read on this machine")
    count = resampled_count(facts, checked_frame_rate(rate)) if facts else frames
    if frames is not None and count != frames:
        raise InvalidSpec(
            "frames", f"must be {count} (the number of frames of {clip} at {rate:g} fps), got {frames}"
        )
    fields = {"frames": count, "width": width, "height": height, "fps": rate}
    _submit(ctx, [condition_of(clip, facts, no_upload, 0, strength)], fields, **asked)


@submit.command()
@click.argument("file")
@click.option("--frames", type=int, help="Number of frames of the result.")
@click.option("--size", "pixels", type=Size(), help="Size of the result.")
@click.option("--fps", type=float, help="Frames a second. Default: 30.")
@video_options
@click.pass_context
def spec(
    ctx: click.Context,
    file: str,
    frames: int | None,
    pixels: tuple[int, int] | None,
    fps: float | None,
    **asked: Any,
) -> None:
    """Make the video that a YAML or JSON file asks for: `farmctl submit --spec FILE`.

    FILE has the fields of the API's JobSpec, such as prompt, frames, width and height. Options on the command line
    override these fields. If FILE is -, the command reads standard input. `farmctl submit spec FILE` does the same.

    Each entry of `conditions` in FILE is a clip or image for the video. Its field `media` is a path on this machine,
    relative to the folder of FILE. The command uploads the clip or image.

    \b
    Examples:
      farmctl submit --spec job.yaml --wait -o shot.mp4
      farmctl submit --spec job.yaml --steps 40 --dry-run
    """
    fields, conditions = read_job(file)
    width, height = pixels or (None, None)
    beside = {"frames": frames, "width": width, "height": height, "fps": fps}
    fields |= {name: value for name, value in beside.items() if value is not None}
    if asked["options"]:
        # A single option wins over the one of the file; the rest of the file's stay.
        fields["options"], asked["options"] = merged(fields.get("options"), asked["options"]), None
    _submit(ctx, conditions, fields, **asked)


def _preset(ctx: click.Context, asked: Mapping[str, Any]) -> Preset:
    """Return the preset that --preset names; an empty one if there is none. Raises InvalidSpec."""
    if not asked["preset"]:
        return Preset()
    return asked_preset(connect(ctx, patience=30.0), asked["preset"], asked["model"])


def _submit(
    ctx: click.Context,
    conditions: list[Condition | LocalCondition],
    fields: dict[str, Any],
    *,
    dry_run: bool,
    wait: bool,
    output: Path | None,
    overwrite: bool,
    prompts: tuple[str, ...],
    prompts_at: tuple[tuple[str, str], ...],
    prompt_file: Path | None,
    **given: Any,
) -> None:
    """Submit or plan a job and print the answer. `given` are the spec's fields that have options of the same name."""
    as_json = output == Path("json")
    if as_json and not dry_run:
        raise InvalidSpec(
            "output",
            "'json' can be used only with --dry-run; without --dry-run, give a file name for the video, such as "
            "long.mp4",
        )
    if output and not as_json:
        check_output(output, overwrite)
    fields |= {name: value for name, value in given.items() if value is not None}
    if prompts or prompts_at or prompt_file:
        fields |= _prompts(prompts, prompts_at, prompt_file, fields)
    client = connect(ctx, patience=30.0)
    with transfer_bar("upload") as moved:
        call = client.plan if dry_run else client.submit
        try:
            destination = None if as_json else output
            with submitting(dry_run):
                answer = call(conditions=conditions, progress=moved, destination=destination, **fields)
        except InvalidSpec as error:
            raise with_media_names(error, conditions) from None
    if as_json:
        return print_json(answer)
    for line in answer.notes:
        note(f"note: {line}")
    if dry_run:
        return print_plan(client, answer.plan)
    job = answer.job
    with submitted(job.id, output):
        with done_all_the_same(f"job {job.id} was submitted"):
            click.echo(
                f"job {job.id} already exists (same idempotency key); nothing was submitted"
                if answer.existing
                else f"job {job.id} submitted"
            )
        ended = follow(client, job.id, output) if wait else None
    if ended:
        finish(client, ended, output, overwrite)
    else:
        target = f" -o {output}" if output else ""
        note(f"follow the job with `farmctl job watch {job.id}{target}`")
        note(f"download the video with `farmctl job download {job.id} -o {output or 'FILE'}` when it is done")


def _prompts(
    prompts: tuple[str, ...],
    prompts_at: tuple[tuple[str, str], ...],
    prompt_file: Path | None,
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the spec's fields that --prompt, --prompt-at and --prompts ask for, and print notes. Raises InvalidSpec."""
    frames, fps = fields.get("frames"), fields.get("fps", 30.0)
    if not isinstance(frames, int) or not isinstance(fps, (int, float)):
        raise InvalidSpec(
            "frames" if isinstance(fps, (int, float)) else "fps",
            "must be given as a number; farmctl uses this number to work out at which frame each prompt begins",
        )
    asked = asked_prompts(prompts, prompts_at, prompt_file, fps=fps, frames=frames)
    for line in asked.notes:
        note(f"note: {line}")
    return asked.fields
