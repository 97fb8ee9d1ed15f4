"""The options that every mode of `farmctl submit` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from farm.cli.params import Choice, text_is_no_option
from farm.options import assignments


def options_of_job(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> dict[str, Any] | None:
    """Return the values given with --option NAME=VALUE, by name; None if --option isn't given.

    Raises InvalidSpec if a name or `=` is missing, or if a name comes twice.
    """
    return assignments(value) or None


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
        help="TEXT says what the video shows from TIME on. TIME is a frame (240), seconds (8s) or a timecode "
        "(00:00:08:00). Repeatable.",
    ),
    click.option(
        "--prompts",
        "prompt_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Read all prompts from a YAML or CSV file. Each row has the text of a prompt and the time "
        "at which that prompt starts. A time is a frame, seconds or a timecode (HH:MM:SS:FF).",
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
        help="Number of frames over which one prompt fades to the next. Default: 24.",
    ),
    click.option(
        "--negative-prompt",
        help="What the video must not show. This option needs a guidance scale above 1. Default: the model's "
        "own negative prompt.",
    ),
    click.option(
        "--seed",
        type=int,
        help="Seed of the random noise. The same job with the same seed gives the same video. Default: 0.",
    ),
    click.option("--steps", type=int, help="Number of denoising steps. Default: the model's own number."),
    click.option(
        "--guidance-scale",
        type=float,
        help="Scale of classifier-free guidance; 1 turns this guidance off. Default: the model's own scale.",
    ),
    click.option(
        "--preset",
        metavar="NAME",
        help="Name of a preset, such as quality, balanced or speed, that sets steps, guidance scale, sampler, size and the "
        "like. Other options of this command override the preset. `farmctl preset list` shows all presets.",
    ),
    click.option(
        "--sampler",
        metavar="NAME",
        help="The sampler, such as heun, that makes the denoising steps. Default: euler.",
    ),
    click.option(
        "--guidance",
        metavar="NAME",
        help="The method, such as comfyui, that combines the model's outputs for the prompt and for the negative "
        "prompt. Default: lightricks.",
    ),
    click.option(
        "--option",
        "options",
        metavar="NAME=VALUE",
        multiple=True,
        callback=options_of_job,
        help="An option of the job's model, strategy, sampler or guidance, for example eta=0.5 or skip_block_list=[19]. "
        "Repeatable. `farmctl plugin show NAME` lists the options of a plugin.",
    ),
    click.option(
        "--strategy",
        help="How the farm renders the windows of the video. 'hierarchical' renders a storyboard, then all windows in "
        "parallel. 'codenoise' does the same, and also matches neighbouring windows at every step. "
        "'autoregressive' renders one window after the other. Plugins may add strategies. Default: the farm "
        "chooses a strategy by the job's settings.",
    ),
    click.option("--model", help="The model that renders the video. Default: ltx-tiny."),
    click.option(
        "--storyboard-model",
        help="A smaller model that draws the storyboard. Default: the model that renders the video.",
    ),
    click.option("--window", "window_latents", type=int, help="Number of latents in a window. Default: 16."),
    click.option(
        "--overlap",
        "overlap_latents",
        type=int,
        help="Number of latents that neighbouring windows have in common. Default: 3.",
    ),
    click.option(
        "--layout",
        type=Choice(["fixed", "farm"]),
        help="With 'fixed', all windows have the length that --window sets. With 'farm', the farm chooses window "
        "lengths that suit the devices online. Default: fixed.",
    ),
    click.option(
        "--priority",
        type=int,
        help="Priority from 0 to 100; jobs with a higher priority go first. Default: 50.",
    ),
    click.option(
        "--name",
        help="A name for the job. Commands accept the name in place of the id if no other job has that name.",
    ),
    click.option("--dry-run", is_flag=True, help="Show the plan and its cost without making a job."),
    click.option("--wait", is_flag=True, help="Wait until the job has ended. Ctrl-C leaves the job running."),
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Where to write the video, such as long.mp4. With --dry-run, `-o json` prints the plan as JSON.",
    ),
    click.option(
        "--overwrite", is_flag=True, help="Replace the file given with --output if that file exists."
    ),
)


def video_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add to a command the options that every mode of `farmctl submit` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
