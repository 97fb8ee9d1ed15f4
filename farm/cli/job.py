"""The commands of `farmctl job`: they show jobs, follow them, change them, and download their videos."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

from farm.cli.follow import fetch, finish, follow, loading
from farm.cli.job_outputs import outputs
from farm.cli.job_settings import settings_lines
from farm.cli.params import Choice
from farm.cli.printing import (
    FORMATS,
    connect,
    counted,
    declared_devices,
    duration,
    format_option,
    how_it_ended,
    job_state,
    marker,
    note,
    print_json,
    print_table,
    say,
    size,
    weights,
    when,
)
from farm.cli.prompts import frame_lines
from farm.client.transfer import check_ending, check_output
from farm.outside_text import shown
from farm.policy.gist import gist
from farm.spec import MAX_PRIORITY, MAX_PROMPT, InvalidSpec
from farm.v1 import jobs_pb2
from farm.wire.enum_words import value_of, word_of, words

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")


@click.group()
def job() -> None:
    """Show, follow, pause, cancel, retry and download jobs.

    ID is a job's id, the first 6 or more characters of the id, or the job's name if no other job has that name.

    \b
    Examples:
      farmctl job list
      farmctl job why j-06b2b
      farmctl job watch sh010
    """


@job.command("list")
@click.option(
    "--state",
    "states",
    type=Choice(words(jobs_pb2.JobState)),
    multiple=True,
    help="Show only jobs in this state. Repeatable.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="Show at most this many jobs.",
)
@click.option(
    "--before", metavar="ID", default="", help="Show only the jobs older than the job with this ID."
)
@format_option
@click.pass_context
def list_jobs(ctx: click.Context, states: tuple[str, ...], limit: int, before: str, form: str) -> None:
    """Show jobs, newest first.

    \b
    Examples:
      farmctl job list --state running
      farmctl job list --before j-06b2b
      farmctl job list -o json | jq -r '.jobs[].id'
    """
    wanted = [value_of(jobs_pb2.JobState, name) for name in states]
    found = connect(ctx).jobs(wanted, limit, before)
    if form == "json":
        return print_json(jobs_pb2.ListJobsResponse(jobs=found))
    print_table(
        ("ID", "STATE", "NAME", "FRAMES", "SIZE", "TASKS", "SUBMITTED"),
        (
            (
                item.id,
                job_state(item),
                item.spec.name or "-",
                item.spec.frames,
                f"{item.spec.width}x{item.spec.height}",
                f"{item.tasks_succeeded}/{item.tasks_total}",
                when(item.created_at),
            )
            for item in found
        ),
        "no jobs"
        + (f" that are {' or '.join(states)}" if states else "")
        + (f" older than {before}" if before else "")
        + ("" if states or before else " yet; see `farmctl submit extend --help`"),
        keep=("ID", "STATE"),
        free=("NAME",),
    )
    if len(found) == limit:
        note(f"there may be older jobs; `farmctl job list --before {found[-1].id}` shows them")


@job.command()
@click.argument("job_id", metavar="ID")
@format_option
@click.pass_context
def show(ctx: click.Context, job_id: str, form: str) -> None:
    """Show one job: its settings and its tasks.

    For each task, the output names the device that ran the task, or says why the task waits.

    \b
    Example:
      farmctl job show j-06b2b
    """
    client = connect(ctx)
    answer = client.job(job_id)
    if form == "json":
        return print_json(answer)
    found = answer.job
    spec = found.spec
    lines = {
        "id": found.id,
        "name": shown(spec.name),
        "state": job_state(found),
        "waiting": found.waiting,
        "loading": "\n           ".join(loading(found)),
        "error": how_it_ended(found) if found.error else "",
        "video": f"{counted(spec.frames, 'frame')}, {spec.width}x{spec.height}, {spec.fps:g} fps",
        "prompt": "\n           ".join(
            shown(prompt, MAX_PROMPT)
            for prompt in [
                spec.prompt,
                *(f"from frame {later.frame}: {later.text}" for later in spec.later_prompts),
            ]
        ),
        "always": shown(spec.prompt_always, MAX_PROMPT),
        "shows": "\n           ".join(frame_lines(answer.shown_prompts)),
        "model": f"{spec.model} {found.precision}, weights {weights(found.weights)}",
        **settings_lines(answer.settings),
        "strategy": found.strategy,
        "storyboard": f"by {spec.storyboard_model}" if spec.storyboard_model else "",
        "layout": spec.layout,
        "seed": spec.seed,
        "priority": found.priority,
        "submitted": when(found.created_at),
        "took": duration(_until(found.finished_at) - found.started_at) if found.started_at else "",
        "output": size(found.output_bytes) if found.output_artifact_id else "",
    }
    for key, value in lines.items():
        if value != "":
            say(f"{key + ':':<11}{value}")
    for text in found.notes:
        say(f"note:      {text}")
    click.echo()
    print_tasks(answer.tasks, marker(declared_devices(client.nodes())))
    told = [(task.key, task.facts["summary"]) for task in answer.tasks if "summary" in task.facts]
    if told:
        click.echo()
    for key, summary in told:
        say(f"{key + ':':<11}{summary}")


def print_tasks(
    tasks: Iterable[jobs_pb2.Task], mark: Callable[[str], str], nothing: str = "no tasks"
) -> None:
    """Print a table of a job's tasks: where each task ran and for how long, or what it waits for.

    Args:
        tasks: The tasks, in the order of the table's rows.
        mark: Takes a device's name, "node/device", and returns the text to print in place of the name.
        nothing: The text to print if there are no tasks.
    """
    rows = []
    for task in tasks:
        attempt = task.attempts[-1] if task.attempts else None
        latents = f"{task.start}-{task.stop}" if task.stop else "-"
        rows.append(
            (
                task.key,
                word_of(jobs_pb2.TaskState, task.state),
                latents,
                mark(f"{attempt.node}/{attempt.device}") if attempt else "-",
                attempt_seconds(attempt) if attempt else "-",
                len(task.attempts),
                gist(task.reason or (attempt.error if attempt else ""), otherwise=""),
            )
        )
    headings = ("TASK", "STATE", "LATENTS", "NODE/DEVICE", "SECONDS", "TRIES", "REASON")
    print_table(headings, rows, nothing, keep=("TASK", "STATE", "NODE/DEVICE"), free=("REASON",))


def attempt_seconds(attempt: jobs_pb2.Attempt) -> str:
    """Return how many seconds an attempt took, as text. For a running attempt, this is the time up to now.

    The text is "-" if the attempt has not been given to a device.
    """
    begun = attempt.started_at or attempt.dispatched_at
    return f"{max(0.0, _until(attempt.finished_at) - begun):.1f}" if begun else "-"


def _until(finished_at: float) -> float:
    return finished_at or time.time()


@job.command()
@click.argument("job_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    default="table",
    metavar="FILE|table|json",
    help="FILE: download the finished video to this file, such as long.mp4. json: print each update as a line of JSON.",
)
@overwrite_option
@click.pass_context
def watch(ctx: click.Context, job_id: str, output: str, overwrite: bool) -> None:
    """Follow a job to its end. Ctrl-C leaves the job running.

    \b
    Examples:
      farmctl job watch j-06b2b -o long.mp4
      farmctl job watch j-06b2b -o json
    """
    file = None if output in FORMATS else Path(output)
    if file:
        check_output(file, overwrite)
    client = connect(ctx)
    if file:
        check_ending(file, client.ending(client.job(job_id).job))
    json = output == "json"
    ended = follow(client, job_id, file, json)
    if not json or ended.state != jobs_pb2.JOB_STATE_SUCCEEDED:
        finish(client, ended, file, overwrite)


@job.command()
@click.argument("job_id", metavar="ID")
@format_option
@click.pass_context
def cancel(ctx: click.Context, job_id: str, form: str) -> None:
    """Cancel a job. Running windows stop at their next denoising step.

    To continue the job later from its finished tasks, use `farmctl job retry`.

    \b
    Example:
      farmctl job cancel j-06b2b
    """
    ended = connect(ctx).cancel(job_id)
    if form == "json":
        return print_json(jobs_pb2.CancelJobResponse(job=ended))
    click.echo(f"job {ended.id} is {job_state(ended)}")


@job.command()
@click.argument("job_id", metavar="ID")
@format_option
@click.pass_context
def pause(ctx: click.Context, job_id: str, form: str) -> None:
    """Pause a job: the farm starts no more of its tasks. Running tasks finish.

    The job stays paused until you run `farmctl job resume`, even if the farm restarts.

    \b
    Examples:
      farmctl job pause j-06b2b
      farmctl job resume j-06b2b
    """
    found = connect(ctx).pause(job_id)
    if form == "json":
        return print_json(jobs_pb2.PauseJobResponse(job=found))
    running = sum(stage.running for stage in found.stages)
    click.echo(
        f"job {found.id} is {job_state(found)}"
        + (f"; {running} running task{'' if running == 1 else 's'} will finish" if running else "")
    )


@job.command()
@click.argument("job_id", metavar="ID")
@format_option
@click.pass_context
def resume(ctx: click.Context, job_id: str, form: str) -> None:
    """Resume a paused job.

    \b
    Example:
      farmctl job resume j-06b2b
    """
    found = connect(ctx).resume(job_id)
    if form == "json":
        return print_json(jobs_pb2.ResumeJobResponse(job=found))
    click.echo(f"job {found.id} is {job_state(found)}")


@job.command()
@click.argument("job_id", metavar="ID")
@click.option(
    "--failed",
    is_flag=True,
    help="Retry only tasks that failed, not the tasks that were cancelled because of a failure.",
)
@format_option
@click.pass_context
def retry(ctx: click.Context, job_id: str, failed: bool, form: str) -> None:
    """Continue a failed or cancelled job from its finished tasks.

    The farm runs all unfinished tasks, and each task gets its full number of tries. With --failed, the farm runs only
    the failed tasks.

    The farm removes old artifacts (see `keep.days` in farm.toml). If a task needs a removed artifact, the farm first
    makes that artifact again.

    \b
    Examples:
      farmctl job retry j-06b2b
      farmctl job retry j-06b2b --failed
    """
    answer = connect(ctx).retry(job_id, failed)
    if form == "json":
        return print_json(answer)
    click.echo(f"job {answer.job.id} is {job_state(answer.job)}; {put_back(answer.tasks)}")


def put_back(keys: Sequence[str]) -> str:
    """Return a text that says which tasks run again after a retry. `keys` are the keys of these tasks."""
    if not keys:
        return "there was nothing to retry"
    some = ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
    return f"{len(keys)} task{'' if len(keys) == 1 else 's'} to run again: {some}"


@job.command()
@click.argument("job_id", metavar="ID")
@click.argument("number", metavar="N", type=click.IntRange(0, MAX_PRIORITY))
@format_option
@click.pass_context
def priority(ctx: click.Context, job_id: str, number: int, form: str) -> None:
    """Set a job's priority to N, from 0 to 100.

    Tasks of jobs with a higher priority run first; the default is 50. Running tasks are not stopped.

    \b
    Example:
      farmctl job priority j-06b2b 90
    """
    found = connect(ctx).prioritise(job_id, number)
    if form == "json":
        return print_json(jobs_pb2.PrioritiseJobResponse(job=found))
    click.echo(f"job {found.id} has priority {found.priority}")


@job.command()
@click.argument("job_id", metavar="ID")
@format_option
@click.pass_context
def why(ctx: click.Context, job_id: str, form: str) -> None:
    """Say why a job makes no progress.

    The output begins with a summary. For each task, the output says what the task waits for. For each device, the
    output counts the job's unfinished tasks that fit on the device.

    \b
    Examples:
      farmctl job why j-06b2b
      farmctl job why j-06b2b -o json | jq -r .summary
    """
    client = connect(ctx)
    answer = client.why(job_id)
    if form == "json":
        return print_json(answer)
    say(answer.summary)
    if answer.tasks:
        click.echo()
        print_table(
            ("TASK", "STATE", "REASON"),
            (
                (one.key, word_of(jobs_pb2.TaskState, one.state), gist(one.reason, otherwise=""))
                for one in answer.tasks
            ),
            "",
            keep=("TASK", "STATE"),
            free=("REASON",),
        )
    if any(device.of for device in answer.devices):
        mark = marker(declared_devices(client.nodes()))
        click.echo()
        print_table(
            ("NODE/DEVICE", "FITS", "DOES", "REASON"),
            (
                (mark(one.device), f"{one.fits}/{one.of}", one.task or "-", one.reason)
                for one in answer.devices
            ),
            "",
            keep=("NODE/DEVICE",),
            free=("REASON",),
        )


@job.command()
@click.argument("job_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Where to write the video, such as long.mp4.",
)
@click.option(
    "--sidecar",
    is_flag=True,
    help="Also write a .json file beside FILE that says how the video was made, and which frames show which prompt.",
)
@overwrite_option
@click.pass_context
def download(ctx: click.Context, job_id: str, output: Path, sidecar: bool, overwrite: bool) -> None:
    """Download a finished job's video, or continue a download that broke off because the farm stopped answering.

    Ctrl-C ends the download and removes the part that has arrived.

    For a job that has no video yet, `farmctl job outputs ID --partial FOLDER` downloads the frames that are decoded
    so far.

    \b
    Example:
      farmctl job download j-06b2b -o long.mp4 --sidecar     # and long.json
    """
    beside = output.with_suffix(".json")
    if sidecar and beside == output:
        raise InvalidSpec(
            "output",
            f"must not end in .json with --sidecar, because the sidecar is written to {shown(beside)}; "
            "give the video's extension, such as .mp4",
        )
    check_output(output, overwrite)
    if sidecar:
        check_output(beside, overwrite)
    client = connect(ctx, patience=60.0)
    fetch(client, job_id, output, overwrite)
    if sidecar:
        say(f"{shown(client.download_sidecar(job_id, beside, overwrite))}")


job.add_command(outputs)
