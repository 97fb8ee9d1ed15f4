"""farmctl job: looking at jobs, following, cancelling and downloading them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click

from farm.cli.follow import fetch, finish, follow
from farm.cli.output import (
    FORMATS,
    connect,
    declared_devices,
    duration,
    format_option,
    job_state,
    marker,
    print_json,
    print_table,
    size,
    state,
    weights,
    when,
)
from farm.transfer import check_output
from farm.v1 import jobs_pb2

_STATES = [name.partition("_STATE_")[2].lower() for name in jobs_pb2.JobState.keys()[1:]]

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace FILE where it exists.")


@click.group()
def job() -> None:
    """Look at jobs, follow, cancel and download them.

    \b
    Example:
      farmctl job list
    """


@job.command("list")
@click.option(
    "--state", "states", type=click.Choice(_STATES), multiple=True, help="Only these; may be repeated."
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most this many."
)
@format_option
@click.pass_context
def list_jobs(ctx: click.Context, states: tuple[str, ...], limit: int, form: str) -> None:
    """Show jobs, newest first.

    \b
    Examples:
      farmctl job list --state running
      farmctl job list -o json | jq -r '.jobs[].id'
    """
    wanted = [jobs_pb2.JobState.Value(f"JOB_STATE_{name.upper()}") for name in states]
    found = connect(ctx).jobs(wanted, limit)
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
        + (f" that are {' or '.join(states)}" if states else " yet; see `farmctl submit extend --help`"),
    )


@job.command()
@click.argument("job_id", metavar="ID")
@format_option
@click.pass_context
def show(ctx: click.Context, job_id: str, form: str) -> None:
    """Show one job: its stages, which device rendered which window, and what a ready task waits for.

    \b
    Example:
      farmctl job show 01JD3Q
    """
    client = connect(ctx)
    answer = client.job(job_id)
    if form == "json":
        return print_json(answer)
    found = answer.job
    spec = found.spec
    lines = {
        "id": found.id,
        "name": spec.name,
        "state": job_state(found),
        "error": found.error,
        "video": f"{spec.frames} frames, {spec.width}x{spec.height}, {spec.fps:g} fps",
        "prompt": "\n           ".join(
            [spec.prompt, *(f"{later.frame}: {later.text}" for later in spec.later_prompts)]
        ),
        "model": f"{spec.model} {found.precision}, weights {weights(found.weights)}",
        "strategy": found.strategy,
        "storyboard": f"by {spec.storyboard_model}" if spec.storyboard_model else "",
        "layout": spec.layout,
        "seed": spec.seed,
        "submitted": when(found.created_at),
        "took": duration(_until(found.finished_at) - found.started_at) if found.started_at else "",
        "output": size(found.output_bytes) if found.output_artifact_id else "",
    }
    for key, value in lines.items():
        if value != "":
            click.echo(f"{key + ':':<11}{value}")
    for text in found.notes:
        click.echo(f"note:      {text}")
    click.echo()
    print_tasks(answer, marker(declared_devices(client.nodes())))
    told = [(task.key, task.facts["summary"]) for task in answer.tasks if "summary" in task.facts]
    if told:
        click.echo()
    for key, summary in told:
        click.echo(f"{key + ':':<11}{summary}")


def print_tasks(answer: jobs_pb2.GetJobResponse, mark: Callable[[str], str]) -> None:
    """A table of a job's tasks: where each ran and for how long, or what it waits for."""
    rows = []
    for task in answer.tasks:
        attempt = task.attempts[-1] if task.attempts else None
        latents = f"{task.start}-{task.stop}" if task.stop else "-"
        rows.append(
            (
                task.key,
                state(jobs_pb2.TaskState, task.state),
                latents,
                mark(f"{attempt.node}/{attempt.device}") if attempt else "-",
                _seconds(attempt) if attempt else "-",
                len(task.attempts),
                task.reason or (attempt.error if attempt else ""),
            )
        )
    print_table(("TASK", "STATE", "LATENTS", "NODE/DEVICE", "SECONDS", "TRIES", "REASON"), rows, "no tasks")


def _seconds(attempt: jobs_pb2.Attempt) -> str:
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
    help="FILE: download the video there at the end. json: one JSON object a line for each update.",
)
@overwrite_option
@click.pass_context
def watch(ctx: click.Context, job_id: str, output: str, overwrite: bool) -> None:
    """Follow a job to its end. Ctrl-C leaves the job running.

    \b
    Examples:
      farmctl job watch 01JD3Q -o long.mp4
      farmctl job watch 01JD3Q -o json
    """
    file = None if output in FORMATS else Path(output)
    if file:
        check_output(file, overwrite)
    client = connect(ctx)
    json = output == "json"
    ended = follow(client, job_id, file, json)
    if not json or ended.state != jobs_pb2.JOB_STATE_SUCCEEDED:
        finish(client, ended, file, overwrite)


@job.command()
@click.argument("job_id", metavar="ID")
@format_option
@click.pass_context
def cancel(ctx: click.Context, job_id: str, form: str) -> None:
    """Cancel a job; running windows stop at their next denoising step.

    \b
    Example:
      farmctl job cancel 01JD3Q
    """
    ended = connect(ctx).cancel(job_id)
    if form == "json":
        return print_json(jobs_pb2.CancelJobResponse(job=ended))
    click.echo(f"job {ended.id} is {job_state(ended)}")


@job.command()
@click.argument("job_id", metavar="ID")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Where to."
)
@overwrite_option
@click.pass_context
def download(ctx: click.Context, job_id: str, output: Path, overwrite: bool) -> None:
    """Download a finished job's video. One that was broken off is continued.

    \b
    Example:
      farmctl job download 01JD3Q -o long.mp4
    """
    fetch(connect(ctx, patience=60.0), job_id, output, overwrite)
