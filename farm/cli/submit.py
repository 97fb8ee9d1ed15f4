"""farmctl submit: ask the farm for a video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from farm.cli.follow import finish, follow, transfer_bar
from farm.cli.given_media import check_length, condition_of, facts_of, frame_of, rate_of, size_of
from farm.cli.keyframe_defaults import KeyMedia, default_rate, in_frame_order
from farm.cli.params import Choice, Keyframe, Place, Size, text_is_no_option
from farm.cli.printing import (
    connect,
    declared_devices,
    done_all_the_same,
    duration,
    marker,
    note,
    print_json,
    print_table,
    say,
    size,
    weights,
)
from farm.cli.prompts import asked_prompts, frame_lines
from farm.cli.refusals import with_media_names
from farm.client import FarmClient, InvalidSpec, LocalCondition
from farm.client.transfer import check_output
from farm.media.clips import resampled_count
from farm.planning import TaskKind
from farm.spec import Condition, frame_rate
from farm.v1 import jobs_pb2


@click.group()
def submit() -> None:
    """Ask the farm for a video.

    \b
    Examples:
      farmctl submit text --frames 250 --prompt "a river at dawn" --wait -o river.mp4
      farmctl submit image still.png --frames 250 --prompt "…"
      farmctl submit extend clip.mp4 --frames 750 --size 1024x576 --fps 30 --prompt "…" --wait -o long.mp4
      farmctl submit keyframes a.png@0 b.png@120 c.png@end --frames 250 --prompt "…"
      farmctl submit video take3.mp4 --strength 0.3 --prompt "…"
    """


_OPTIONS = (
    click.option(
        "--prompt",
        "prompts",
        multiple=True,
        metavar="TEXT",
        help="A text that says what the video shows.",
    ),
    click.option(
        "--prompt-at",
        "prompts_at",
        type=(str, str),
        multiple=True,
        metavar="TIME TEXT",
        callback=text_is_no_option,
        help="TEXT is what the video shows from TIME on: a frame (240), seconds (8s) or a timecode (00:00:08:00). "
        "Repeatable.",
    ),
    click.option(
        "--prompts",
        "prompt_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Read all prompts from a YAML or CSV file. Each row has a text and a frame, seconds or a timecode "
        "(HH:MM:SS:FF).",
    ),
    click.option(
        "--prompt-always",
        metavar="TEXT",
        help="A text put before every prompt, such as a description of the person in the shot.",
    ),
    click.option(
        "--crossfade",
        "crossfade_frames",
        type=int,
        help="Frames over which one prompt fades to the next. Default: 24.",
    ),
    click.option(
        "--negative-prompt", default="", help="What the video must not show. Needs a guidance scale above 1."
    ),
    click.option(
        "--seed", type=int, default=0, show_default=True, help="The same seed gives the same video."
    ),
    click.option("--steps", type=int, help="Denoising steps. Default: the model's."),
    click.option(
        "--guidance-scale",
        type=float,
        help="Scale of classifier-free guidance; 1 turns it off. Default: the model's.",
    ),
    click.option(
        "--strategy",
        help="How windows are made: hierarchical (a storyboard, then all windows at once), codenoise (a storyboard, then "
        "all windows in lockstep, agreeing at every step), autoregressive (one window after the other), or a plugin's "
        "strategy. Default: the farm chooses from the job alone.",
    ),
    click.option("--model", help="The model that renders the video. Default: ltx-tiny."),
    click.option("--storyboard-model", help="A smaller model that draws the storyboard. Default: --model."),
    click.option("--window", "window_latents", type=int, help="Length of a window in latents. Default: 16."),
    click.option(
        "--overlap", "overlap_latents", type=int, help="Latents that neighbouring windows share. Default: 3."
    ),
    click.option(
        "--layout",
        type=Choice(["fixed", "farm"]),
        help="fixed: windows of --window latents on every farm. farm: windows sized for the devices that are online. "
        "Default: fixed.",
    ),
    click.option("--priority", type=int, help="Priority from 0 to 100; higher goes first. Default: 50."),
    click.option("--name", default="", help="A name for the job, for people."),
    click.option("--dry-run", is_flag=True, help="Show the plan and its cost without making a job."),
    click.option("--wait", is_flag=True, help="Wait until the job has ended. Ctrl-C leaves the job running."),
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Where to write the video, such as long.mp4. With --dry-run, json prints the plan as the API's JSON.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace FILE if it exists."),
)


def _video(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every mode takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_NO_UPLOAD = click.option(
    "--no-upload",
    is_flag=True,
    help="Upload nothing: the media is a path on farmd's host, below a folder of farmd's setting media.roots.",
)


@submit.command()
@click.option("--frames", type=int, required=True, help="Frames of the result.")
@click.option("--size", "pixels", type=Size(), default="1024x576", show_default=True)
@click.option("--fps", type=float, default=30.0, show_default=True, help="Frames a second.")
@_video
@click.pass_context
def text(ctx: click.Context, frames: int, pixels: tuple[int, int], fps: float, **asked: Any) -> None:
    """Make a video from a prompt alone.

    \b
    Examples:
      farmctl submit text --frames 250 --prompt "a river at dawn" --wait -o river.mp4
      farmctl submit text --frames 500 --prompt "a ball rolls" --prompt-at 240 "it stops"
      farmctl submit text --frames 500 --prompts shots.yaml --prompt-always "a man in a red hat"
      farmctl submit text --frames 1 --size 256x160 --prompt "a red ball on a navy background"
    """
    _submit(ctx, [], {"frames": frames, "width": pixels[0], "height": pixels[1], "fps": fps}, **asked)


@submit.command()
@click.argument("image")
@click.option("--frames", type=int, required=True, help="Frames of the result.")
@click.option("--size", "pixels", type=Size(), help="Size of the result. Default: the image's.")
@click.option("--fps", type=float, default=30.0, show_default=True, help="Frames a second.")
@_video
@_NO_UPLOAD
@click.pass_context
def image(
    ctx: click.Context,
    image: str,
    frames: int,
    pixels: tuple[int, int] | None,
    fps: float,
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
    width, height = pixels or size_of(facts)
    fields = {"frames": frames, "width": width, "height": height, "fps": fps}
    _submit(ctx, [condition_of(image, facts, no_upload)], fields, **asked)


@submit.command()
@click.argument("clip")
@click.option("--frames", type=int, required=True, help="Frames of the result, the clip's own included.")
@click.option("--size", "pixels", type=Size(), help="Size of the result. Default: the clip's.")
@click.option("--fps", type=float, help="Frames a second. Default: the clip's.")
@click.option(
    "--at", type=Place(), default="start", show_default=True, help="Frame of the result at which CLIP begins."
)
@_video
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
      farmctl submit extend clip.mp4 --frames 750 --at end       # new frames only before the clip
      farmctl submit extend clip.mp4 --frames 750 --at 300       # 300 new frames before the clip, the rest after it
      farmctl submit extend clip.mp4 --frames 750 --dry-run
    """
    facts = facts_of("clip", clip, no_upload)
    width, height = pixels or size_of(facts)
    rate = fps if fps is not None else rate_of(facts)
    check_length(clip, facts, frames, rate)
    fields = {"frames": frames, "width": width, "height": height, "fps": rate}
    frame = frame_of(at, facts, frames, rate)
    _submit(ctx, [condition_of(clip, facts, no_upload, frame)], fields, **asked)


@submit.command()
@click.argument("media", nargs=-1, required=True, type=Keyframe())
@click.option("--frames", type=int, required=True, help="Frames of the result.")
@click.option(
    "--size",
    "pixels",
    type=Size(),
    help="Size of the result. Default: the size of the media that the video shows first.",
)
@click.option("--fps", type=float, help="Frames a second. Default: the clips'; 30 if all media are images.")
@_video
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
    """Make the frames between images and clips that each have a place in the result.

    MEDIA@FRAME puts an image or clip at a frame: 'start', 'end' or a number. MEDIA@FRAME:STRENGTH lets the model change
    that image or clip; at strength 1 the model keeps it as it is. The order of the arguments doesn't matter.

    \b
    Examples:
      farmctl submit keyframes a.png@0 b.png@120 c.png@end --frames 250 --prompt "…" --wait -o between.mp4
      farmctl submit keyframes opening.mp4@start logo.png@end --frames 500 --size 1024x576
    """
    found = [facts_of("media", name, no_upload) for name, _, _ in media]
    keys = [KeyMedia(name, at, facts) for (name, at, _), facts in zip(media, found, strict=True)]
    width, height = pixels or size_of(in_frame_order(keys)[0].facts)
    rate, why = (fps, "") if fps is not None else default_rate(keys)
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
    help="How firmly the video keeps to CLIP: at 0 nothing of CLIP is left, near 1 CLIP hardly changes.",
)
@click.option("--frames", type=int, help="Frames of the result. Default: the clip's.")
@click.option("--size", "pixels", type=Size(), help="Size of the result. Default: the clip's.")
@click.option("--fps", type=float, help="Frames a second. Default: the clip's.")
@_video
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
    """Restyle a video: CLIP gives layout and motion, the prompt says what the video becomes.

    \b
    Example:
      farmctl submit video take3.mp4 --strength 0.3 --prompt "a river at night" --wait -o night.mp4
    """
    facts = facts_of("clip", clip, no_upload)
    width, height = pixels or size_of(facts)
    rate = fps if fps is not None else rate_of(facts)
    if facts is None and frames is None:
        raise InvalidSpec("frames", "must be given: the clip can't be read on this machine")
    count = resampled_count(facts, frame_rate(rate)) if facts and 1 <= rate <= 120 else frames
    if frames is not None and count != frames:
        raise InvalidSpec("frames", f"must be {count}, the frames of {clip} at {rate:g} fps, got {frames}")
    fields = {"frames": count, "width": width, "height": height, "fps": rate}
    _submit(ctx, [condition_of(clip, facts, no_upload, 0, strength)], fields, **asked)


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
        raise InvalidSpec("output", "json is for --dry-run; give the name of the video, such as long.mp4")
    if output and not as_json:
        check_output(output, overwrite)
    fields |= {name: value for name, value in given.items() if value is not None}
    asked = asked_prompts(prompts, prompts_at, prompt_file, fps=fields["fps"], frames=fields["frames"])
    fields |= asked.fields
    for line in asked.notes:
        note(f"note: {line}")
    client = connect(ctx, patience=30.0)
    with transfer_bar("upload") as moved:
        call = client.plan if dry_run else client.submit
        try:
            destination = None if as_json else output
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
    with done_all_the_same(f"job {job.id} was submitted"):
        click.echo(
            f"job {job.id} already exists (same idempotency key); nothing was submitted"
            if answer.existing
            else f"job {job.id} submitted"
        )
    if wait:
        finish(client, follow(client, job.id, output), output, overwrite)
    else:
        target = f" -o {output}" if output else ""
        note(f"follow it with `farmctl job watch {job.id}{target}`")
        note(f"download the video with `farmctl job download {job.id} -o {output or 'FILE'}` when it is done")


def print_plan(client: FarmClient, plan: jobs_pb2.PlanSummary) -> None:
    """Print a plan: its strategy, model, size, cost and windows."""
    counts = Counter(task.kind for task in plan.tasks)
    mark = marker(declared_devices(client.nodes()))
    devices = ", ".join(mark(place) for place in plan.fitting_devices)
    lines = {
        "strategy": plan.strategy,
        "model": f"{plan.model} {plan.precision}"
        + (f", weights {weights(plan.weights)}" if plan.weights else ""),
        "renders": f"{plan.render_frames} frames ({plan.latents} latents) at {plan.render_width}x{plan.render_height}",
        "tasks": ", ".join(f"{count} {kind}" for kind, count in counts.items()),
        "devices": devices or "no device of this farm fits; the job would wait",
        "time": f"about {duration(plan.estimated_seconds)}"
        if plan.HasField("estimated_seconds")
        else "unknown: no fitting device is online",
        "disk": f"about {size(plan.estimated_bytes)}",
    }
    if prompts := frame_lines(plan.shown_prompts):
        lines["prompts"] = "\n           ".join(prompts)
    for key, value in lines.items():
        say(f"{key + ':':<11}{value}")
    click.echo()
    windows = [task for task in plan.tasks if task.kind in (TaskKind.STORYBOARD, TaskKind.WINDOW)]
    print_table(
        ("WINDOW", "LATENTS", "NEEDS", "TFLOP", "MEMORY"),
        (
            (
                task.key,
                f"{task.start}-{task.stop}",
                ", ".join(task.needs) or "-",
                f"{task.flops / 1e12:.2f}",
                size(task.vram_bytes),
            )
            for task in windows
        ),
        "no windows",
        keep=("WINDOW",),
    )
