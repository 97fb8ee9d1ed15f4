"""The command `farmctl inference`: runs the command lines and configs of Lightricks' inference.py on the farm."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import click
from PIL import Image

from farm.cli.follow import finish, follow, submitted, submitting, transfer_bar
from farm.cli.planned import print_plan
from farm.cli.printing import connect, done_all_the_same, note, say, spinner
from farm.client import FarmClient, InvalidSpec, LocalCondition
from farm.inference.arguments import InferenceConfig
from farm.inference.conditions import prepare_conditions
from farm.inference.configs import PipelineConfig, find_config
from farm.inference.mapping import STAND_IN, InferenceJob, job_of, model_of
from farm.inference.output_names import output_name
from farm.inference.refusals import in_its_words
from farm.outside_text import shown, storable
from farm.v1 import jobs_pb2

LISTS = ("conditioning_media_paths", "conditioning_strengths", "conditioning_start_frames")
"""Arguments that take several values after one another."""

_MOST_REMARKS, _LONGEST_REMARK = 50, 500
"""How many remarks the models keep with a job, and the most characters of each."""

_SWITCH = "offload_to_cpu"
"""The argument whose value may be left out."""

_NAMES = {
    **{name: f"--{name}" for name in (*InferenceConfig.model_fields, "model", "help")},
    "dry_run": "--dry-run",
}
"""The command's options, by their names with underscores."""

_TAKING_ONE = set(_NAMES.values()) - {f"--{name}" for name in (*LISTS, _SWITCH, "dry-run", "help")}
"""The options that take exactly one value."""


class _Folder(click.Path):
    """A folder. An empty name stands for the default, as in the original."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "" else super().convert(value, param, ctx)


_TYPES: dict[str, Any] = {
    "output_path": _Folder(path_type=Path, file_okay=False),
    "seed": int,
    "height": int,
    "width": int,
    "num_frames": int,
    "frame_rate": int,
    "image_cond_noise_scale": float,
    "conditioning_strengths": float,
    "conditioning_start_frames": int,
}


def _switch(value: str | None) -> bool:
    """Return the meaning of what may stand behind a switch of the original."""
    if value is None or value.lower() in ("yes", "true", "t", "y", "1"):
        return True
    if value.lower() in ("no", "false", "f", "n", "0"):
        return False
    raise InvalidSpec(_SWITCH, f"must be true or false, got {value!r}")


class _Command(click.Command):
    """A click command whose options may take several values, as those of the original do: `--x a b c`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(_spread(args)))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise


def _spread(given: Sequence[str]) -> Iterator[str]:
    """Yield the arguments in click's way: the name of a list before each of its values.

    If an option that takes a list occurs twice, only its last occurrence counts, as in the original.

    Raises:
        click.UsageError: The beginning of a name fits several options, or an option lacks its value.
    """
    args = [_in_full(arg) for arg in given]
    lists = {f"--{name}" for name in LISTS}
    last = {arg.partition("=")[0]: place for place, arg in enumerate(args) if arg.partition("=")[0] in lists}
    taking = ""
    for place, arg in enumerate(args):
        after = args[place + 1] if place + 1 < len(args) else None
        alone = after is None or _is_option(after)
        name, equals, _ = arg.partition("=")
        if name in lists and equals:
            taking = ""
            if last[name] == place:
                yield arg
        elif arg in lists:
            taking = arg
            if alone:
                raise click.UsageError(f"{arg} needs at least one value")
        elif taking and not _is_option(arg):
            if last[taking] < place:
                yield from (taking, arg)
        else:
            taking = ""
            if arg in _TAKING_ONE and (after is None or after.partition("=")[0] in _NAMES.values()):
                raise click.UsageError(f"{arg} needs a value")
            yield arg
            if arg == f"--{_SWITCH}" and alone:
                yield "true"


def _in_full(arg: str) -> str:
    """Return an option as this command spells it, and in full where only one option begins so.

    Underscores and hyphens are alike. Raises click.UsageError if several options begin so.
    """
    spelt, equals, value = arg.partition("=")
    name = spelt.removeprefix("--").replace("-", "_")
    if not spelt.startswith("--") or not name:
        return arg
    begun = [name] if name in _NAMES else [one for one in _NAMES if one.startswith(name)]
    if len(begun) > 1:
        could = ", ".join(_NAMES[one] for one in begun)
        raise click.UsageError(f"ambiguous option: {spelt} could match {could}; write more of the name")
    return f"{_NAMES[begun[0]]}{equals}{value}" if begun else arg


def _is_option(arg: str) -> bool:
    """Return whether an argument begins an option. As in the original, "-", numbers and texts with spaces don't."""
    if arg.partition("=")[0] in _NAMES.values():
        return True
    number = arg.removeprefix("-").replace(".", "", 1).isdigit()
    return len(arg) > 1 and arg.startswith("-") and not number and " " not in arg


def _arguments(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each argument of the original."""
    for name, field in reversed(InferenceConfig.model_fields.items()):
        told = field.description or ""
        if (
            field.default not in ("", None, False)
            and field.default_factory is None
            and not field.is_required()
        ):
            told += f" Default: {field.default}."
        command = click.option(
            f"--{name}",
            type=_TYPES.get(name, str),
            multiple=name in LISTS,
            metavar=_metavar(name),
            help=told,
        )(command)
    return command


def _metavar(name: str) -> str | None:
    if name in LISTS:
        return {"paths": "FILE…", "strengths": "NUMBER…", "frames": "FRAME…"}[name.rpartition("_")[2]]
    return {"prompt": "TEXT", "negative_prompt": "TEXT", _SWITCH: "[BOOLEAN]"}.get(name)


@click.command(cls=_Command)
@_arguments
@click.option(
    "--model",
    default="",
    metavar="NAME",
    help=f"Which of the farm's models to use. Default: the model that fits the checkpoint in the config. {STAND_IN}, "
    "a small model for trials, is used only if --model names it.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and its cost without making a job.")
@click.pass_context
def inference(ctx: click.Context, model: str, dry_run: bool, **given: Any) -> None:
    """Make a video on the farm, with the same options as Lightricks' inference.py.

    Command lines for inference.py work unchanged. `--pipeline_config` accepts a file, or the name of a config that
    Lightricks publishes. The command waits for the video, and saves it in the same folder and under the same file name
    as inference.py. docs/inference.md says what the farm does differently.

    \b
    Examples:
      farmctl inference --prompt "a river at dawn" --height 720 --width 1280 --num_frames 65 \\
          --pipeline_config configs/ltxv-2b-0.9.6-distilled.yaml
      farmctl inference --conditioning_media_paths first.png last.png \\
          --conditioning_start_frames 0 120 --pipeline_config my.yaml --model ltx-tiny --dry-run
    """
    asked = _asked(given)
    if not dry_run:
        _check_folder(asked.output_path)
    config = find_config(asked.pipeline_config)
    job = job_of(asked, config, model)
    if job.headline:
        say(job.headline)
    for line in job.notes:
        note(f"note: {line}")
    with tempfile.TemporaryDirectory(prefix="farmctl-inference-") as folder:
        conditions, said = _prepared(job, asked, Path(folder))
        for line in said:
            note(f"note: {line}")
        client = connect(ctx, patience=30.0)
        remarks = _remarks([job.headline, *job.notes, *said])
        fields = {**job.fields, "options": {**job.fields["options"], "remarks": remarks}}
        with transfer_bar("upload") as moved, _in_its_words(job, config):
            call = client.plan if dry_run else client.submit
            with submitting(dry_run):
                answer = call(conditions=conditions, progress=moved, **fields)
    for line in answer.notes:
        if line.partition(":")[0] not in job.implied and line not in remarks:
            note(f"note: {line}")
    if dry_run:
        return print_plan(client, answer.plan)
    ended = _followed(client, answer.job.id, asked)
    path = _path(asked)
    if asked.num_frames > 1 or ended.state != jobs_pb2.JOB_STATE_SUCCEEDED:
        return finish(client, ended, path, overwrite=False)
    with tempfile.TemporaryDirectory(prefix="farmctl-inference-") as folder:
        clip = Path(folder) / "frame.mp4"
        client.download(ended.id, clip)
        with av.open(str(clip)) as container:
            Image.fromarray(next(container.decode(video=0)).to_ndarray(format="rgb24")).save(path)
    say(str(path))


def _remarks(said: Sequence[str]) -> list[str]:
    """Return what this command says of a job in a form that stays with the job, so that `job show` tells it too."""
    fit = [storable(line) for line in said if line][:_MOST_REMARKS]
    return [line if len(line) <= _LONGEST_REMARK else f"{line[: _LONGEST_REMARK - 1]}…" for line in fit]


def _path(asked: InferenceConfig) -> Path:
    size = (asked.width, asked.height)
    return output_name(asked.output_path, asked.prompt, asked.seed, size, asked.num_frames)


def _followed(client: FarmClient, job_id: str, asked: InferenceConfig) -> jobs_pb2.Job:
    """Follow a new job to its end. If the user interrupts this, tell how the video gets to its path all the same."""
    path, one = _path(asked), asked.num_frames == 1
    target = path.with_suffix(".mp4") if one else path
    try:
        with submitted(job_id, target):
            # The command that Ctrl-C prints needs the folder.
            asked.output_path.mkdir(parents=True, exist_ok=True)
            with done_all_the_same(f"job {job_id} was submitted"):
                click.echo(f"job {job_id} submitted")
            return follow(client, job_id, target)
    except click.exceptions.Exit:
        if one:
            note(
                "`farmctl job watch` and `farmctl job download` save a video with one frame; only `farmctl inference` "
                f"turns this video into {path.name}"
            )
        raise


def _check_folder(folder: Path) -> None:
    """Refuse a folder that can't be made or written in."""
    try:
        there = next(one for one in (folder, *folder.parents) if one.exists())
    except OSError as error:
        raise InvalidSpec("output_path", f"cannot read {shown(folder)}: {error.strerror}") from None
    if not there.is_dir():
        raise InvalidSpec("output_path", f"must be a folder, but {shown(there)} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InvalidSpec("output_path", f"cannot write in {shown(there)}; give another folder")


def _asked(given: dict[str, Any]) -> InferenceConfig:
    """Return the arguments that were given, with the original's defaults for all others."""
    found = {name: value for name, value in given.items() if value is not None and value != ()}
    # An empty path is none, as in the original.
    if found.get("input_media_path") == "":
        del found["input_media_path"]
    if _SWITCH in found:
        found[_SWITCH] = _switch(found[_SWITCH])
    return InferenceConfig(**{name: list(value) if name in LISTS else value for name, value in found.items()})


def _prepared(
    job: InferenceJob, asked: InferenceConfig, folder: Path
) -> tuple[list[LocalCondition], list[str]]:
    """Prepare the call's images and clips while a spinner turns. Return them as conditions, and notes."""
    if not job.media and job.made_over is None:
        return [], []
    with spinner() as tell:
        return prepare_conditions(job, asked, folder, tell)


@contextmanager
def _in_its_words(job: InferenceJob, config: PipelineConfig) -> Iterator[None]:
    """Word the farm's refusals with the original's names; say of a missing model what to copy where."""
    over = [job.made_over] if job.made_over is not None else []
    try:
        yield
    except InvalidSpec as error:
        if error.field == "model":
            raise InvalidSpec("model", _missing(job.fields["model"], config, error.problem)) from None
        media = [*over, *(one.path for one in job.media)]
        raise in_its_words(error, config, media, made_over=bool(over)) from None


def _missing(model: str, config: PipelineConfig, problem: str) -> str:
    if model == STAND_IN:
        return problem
    # A node would refuse the name of a model that its farm doesn't know.
    unknown = problem.startswith("must be one of")
    if unknown and model != _own_model(config):
        return f"this farm knows no model of this name; {problem}"
    can = f"this farm doesn't know {model} yet" if unknown else f"this farm can't render with {model}"
    when = "A version that knows it needs" if unknown else "It needs"
    return (
        f"{can} ({problem}). {when} the model, as a diffusers folder of Lightricks' {Path(config.checkpoint_path).name}, "
        f'copied to a workstation and named in its node.toml, below [models]: "{model}" = "/FOLDER". To try this '
        f"command without the model, add --model {STAND_IN}"
    )


def _own_model(config: PipelineConfig) -> str:
    """Return the model of the config's checkpoint; empty if it isn't one of Lightricks'."""
    try:
        return model_of(config.checkpoint_path)
    except InvalidSpec:
        return ""
